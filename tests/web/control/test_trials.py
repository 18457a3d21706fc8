"""Models on trial over HTTP, over a desk in memory."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import pytest

from rta_service.domain.access import Actor
from rta_service.domain.errors import InvalidInput
from rta_service.web.control import Desks, control_app
from rta_service.web.trial_routes import OUTCOME_BYTES, outcome_routes, trial_routes
from rta_service.web.upload_routes import UploadLimits


class Line(msgspec.Struct):
    fate: str
    id: str = ""


class Report(msgspec.Struct):
    name: str
    rows: int


@dataclass
class FakeTrials:
    """Accepts each line once, and remembers who asked."""

    asked: list[Any] = field(default_factory=list)
    on: bool = False

    def shadows(self) -> list[Report]:
        return [Report("trade", 7)]

    def take_outcomes(self, body: bytes, who: Actor) -> list[Line]:
        self.asked.append((body, who.name))
        if not body.strip():
            raise InvalidInput("has no lines", "outcomes")
        return [Line("accepted" if b"good" in line else "rejected") for line in body.splitlines()]

    def autopilot(self) -> dict[str, Any]:
        return {"switch": {"on": self.on}, "last": None}

    def switch_autopilot(self, who: Actor, why: str, *, on: bool) -> dict[str, Any]:
        self.on = on
        self.asked.append((who.name, why, on))
        return {"on": on}


@pytest.fixture
def trials() -> FakeTrials:
    return FakeTrials()


@pytest.fixture
async def port(
    gate: Any, desk: Any, uploads: Any, adapters: Any, trials: FakeTrials
) -> AsyncIterator[httpx.AsyncClient]:

    async def explain(_request: Any) -> dict[str, Any]:
        return {}

    desks = Desks(desk, desk, uploads, UploadLimits(), explain, lambda: b"")
    more = [lambda g: trial_routes(g, trials), lambda g: outcome_routes(g, trials)]
    app = control_app(gate, desks, adapters, more)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


AsRole = Callable[[str], dict[str, str]]


@pytest.mark.parametrize(
    "route",
    [
        ("GET", "/v1/shadows", "viewer"),
        ("GET", "/v1/autopilot", "viewer"),
        ("PUT", "/v1/autopilot", "admin"),
        ("POST", "/v1/outcomes", "operator"),
    ],
)
@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
async def test_each_role_may_do_what_it_may_and_no_more(
    port: httpx.AsyncClient, as_role: AsRole, route: tuple[str, str, str], role: str
) -> None:
    method, path, least = route
    ranks = ["viewer", "operator", "admin"]

    answer = await port.request(
        method, path, json={"on": True, "why": "good"}, headers=as_role(role)
    )

    allowed = ranks.index(role) >= ranks.index(least)
    assert answer.status_code == (200 if allowed else 403)
    assert (await port.request(method, path)).status_code == 401


async def test_every_line_of_a_body_gets_its_fate(
    port: httpx.AsyncClient, as_role: AsRole, trials: FakeTrials
) -> None:
    answer = await port.post("/v1/outcomes", content=b"good\nbad\n", headers=as_role("operator"))

    assert answer.json() == {
        "accepted": 1,
        "duplicate": 0,
        "rejected": 1,
        "lines": [{"fate": "accepted", "id": ""}, {"fate": "rejected", "id": ""}],
    }
    assert trials.asked == [(b"good\nbad\n", "a-operator")]


async def test_a_body_that_is_empty_or_too_large_is_told(
    port: httpx.AsyncClient, as_role: AsRole
) -> None:
    empty = await port.post("/v1/outcomes", content=b"\n", headers=as_role("operator"))
    large = await port.post(
        "/v1/outcomes", content=b"x" * (OUTCOME_BYTES + 1), headers=as_role("operator")
    )

    assert empty.status_code in (400, 409, 422)
    assert "no lines" in empty.text
    assert large.status_code == 413


async def test_the_autopilot_is_switched_with_a_reason(
    port: httpx.AsyncClient, as_role: AsRole, trials: FakeTrials
) -> None:
    without = await port.put("/v1/autopilot", json={"on": True}, headers=as_role("admin"))
    switched = await port.put(
        "/v1/autopilot", json={"on": True, "why": "holidays"}, headers=as_role("admin")
    )
    shown = await port.get("/v1/autopilot", headers=as_role("viewer"))

    assert without.status_code == 422
    assert switched.json() == {"switch": {"on": True}}
    assert trials.asked == [("a-admin", "holidays", True)]
    assert shown.json()["autopilot"]["switch"]["on"]


async def test_shadows_are_shown(port: httpx.AsyncClient, as_role: AsRole) -> None:
    answer = await port.get("/v1/shadows", headers=as_role("viewer"))

    assert answer.json() == {"shadows": [{"name": "trade", "rows": 7}]}
