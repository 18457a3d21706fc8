"""Fixtures that every test may use. Keep it short: builders live beside their tests."""

from datetime import UTC, datetime

import pytest
from hypothesis import settings
from rich.progress import Progress

from rta_service.config import Settings
from rta_service.demo.world import World, WorldOptions, prepare_world
from rta_service.domain.clock import SystemClock

DEVICES = 6_000

# What `make test` says of a commit must not hang on luck: the same examples each time. Luck has its
# own target, `make explore`, whose finds become examples.
settings.register_profile("same", derandomize=True, deadline=None, max_examples=25)
settings.register_profile("explore", deadline=None, max_examples=1_000)
settings.load_profile("same")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def made_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Make a small market, its records, models and a release, once; nobody may change it."""
    now_ms = SystemClock().now_ms()
    today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    folder = tmp_path_factory.mktemp("world") / "data"
    chosen = Settings(data_dir=folder, redis_url=None, namespace="test")
    return prepare_world(WorldOptions(DEVICES, 7, today, now_ms), chosen, Progress(disable=True))
