"""Cost control over HTTP, over a desk in memory."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from rta_service.domain.errors import StoreUnavailable, UnknownName
from rta_service.web.control import Desks, control_app
from rta_service.web.control_routes import control_routes
from rta_service.web.upload_routes import UploadLimits

AsRole = Callable[[str], dict[str, str]]


class FakeStatus:
    """One unit."""

    away = False

    def units(self) -> list[dict[str, Any]]:
        if self.away:
            raise StoreUnavailable("the store is away")
        return [{"unit": "spring@json"}]

    def unit(self, unit_id: str) -> dict[str, Any]:
        if unit_id != "spring@json":
            raise UnknownName("is no unit of cost control", unit_id)
        return {"unit": unit_id, "flags": []}


@pytest.fixture
def status() -> FakeStatus:
    return FakeStatus()


@pytest.fixture
async def port(
    gate: Any, desk: Any, uploads: Any, adapters: Any, status: FakeStatus
) -> AsyncIterator[httpx.AsyncClient]:

    async def explain(_request: Any) -> dict[str, Any]:
        return {}

    desks = Desks(desk, desk, uploads, UploadLimits(), explain, lambda: b"")
    app = control_app(gate, desks, adapters, [lambda g: control_routes(g, status)])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


async def test_a_viewer_sees_all_units_and_one(port: httpx.AsyncClient, as_role: AsRole) -> None:
    listed = await port.get("/v1/control", headers=as_role("viewer"))
    one = await port.get("/v1/control/spring@json", headers=as_role("viewer"))

    assert listed.json() == {"units": [{"unit": "spring@json"}]}
    assert one.json() == {"unit": "spring@json", "flags": []}


async def test_nobody_sees_them_without_a_token(port: httpx.AsyncClient) -> None:
    assert (await port.get("/v1/control")).status_code == 401
    assert (await port.get("/v1/control/spring@json")).status_code == 401


async def test_an_unknown_unit_and_a_store_that_is_away_are_problems(
    port: httpx.AsyncClient, as_role: AsRole, status: FakeStatus
) -> None:
    unknown = await port.get("/v1/control/autumn@json", headers=as_role("viewer"))
    status.away = True
    away = await port.get("/v1/control", headers=as_role("viewer"))

    assert unknown.status_code == 404
    assert "autumn@json" in unknown.text
    assert away.status_code == 503
    assert away.headers["content-type"] == "application/problem+json"
