"""Small worlds from a campaign's fields."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from rta_service.simulation.wind_tunnel.scenario import Campaign
from rta_service.simulation.wind_tunnel.world import World, make_world


@pytest.fixture
def build() -> Callable[..., World]:
    """Build a world from a campaign's fields, tables as dicts, as a scenario file has them."""

    def make(seed: int = 1, **fields: Any) -> World:
        form = {"requests": 20_000, "people": 4_000, "slots": 40, **fields}
        return make_world(msgspec.convert(form, Campaign), seed)

    return make
