import asyncio
from typing import Any

from rta_service.web.decision import decision_app


async def test_the_background_runs_from_start_to_stop(adapters: Any) -> None:
    seen = []

    async def background() -> None:
        seen.append("started")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("stopped")

    app = decision_app(adapters, str, background)

    async with app.router.lifespan_context(app):
        await asyncio.sleep(0)
        assert seen == ["started"]
    assert seen == ["started", "stopped"]


async def test_the_first_request_waits_until_all_is_prepared(adapters: Any) -> None:
    seen = []

    async def prepare() -> None:
        seen.append("prepared")

    async def background() -> None:
        seen.append("running")

    app = decision_app(adapters, str, background, prepare)

    async with app.router.lifespan_context(app):
        seen.append("serving")
        await asyncio.sleep(0)
    assert seen == ["prepared", "serving", "running"]


async def test_the_decision_port_shows_no_api_pages(port: Any) -> None:
    pages = [await port.client.get(path) for path in ("/docs", "/redoc", "/openapi.json")]

    assert [page.status_code for page in pages] == [404] * 3
