"""The ingest port in process, over an intake in memory and real tokens."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from rta_service.domain.access import Role
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.happening import LineRule
from rta_service.domain.receipt import Fate, LineFate, Receipt
from rta_service.stores.token_file import TokenFile, add_token
from rta_service.web.ingest_app import GroupHealth, IngestLimits, ingest_app

NOW_MS = 1_717_286_400_000
LIMITS = IngestLimits(max_body_bytes=1_000, max_lines=5, max_in_flight_bytes=20_000)
LINES: dict[str, Any] = {"content": b"a\nb\n", "headers": {"Content-Type": "application/x-ndjson"}}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")
OPEN = {("GET", "/livez"), ("GET", "/readyz"), ("GET", "/track/{platform}/{event}")}
SENDING = {("POST", "/v1/events")}


class StandingClock:
    def now_ms(self) -> int:
        return NOW_MS

    def monotonic_s(self) -> float:
        return 0.0


@dataclass
class FakeDesk:
    """Accepts each line, and remembers what it was asked; holds requests while it is told to."""

    error: Exception | None = None
    fate: LineFate = LineFate(1, Fate.ACCEPTED)  # noqa: RUF009 - frozen
    taken: list[Any] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, body: bytes) -> Receipt:
        await self._ask(body)
        lines = body.splitlines()
        fates = tuple(LineFate(number, Fate.ACCEPTED) for number in range(1, len(lines) + 1))
        return Receipt(len(lines), 0, 0, fates)

    async def notice(self, platform: str, event: str, query: bytes) -> LineFate:
        await self._ask((platform, event, query))
        return self.fate

    async def _ask(self, what: object) -> None:
        self.taken.append(what)
        self.entered.set()
        await asyncio.wait_for(self.gate.wait(), 10)
        if self.error is not None:
            raise self.error


@dataclass
class FakeHealth:
    groups: dict[str, GroupHealth] = field(default_factory=dict)
    error: Exception | None = None

    async def __call__(self) -> Mapping[str, GroupHealth]:
        if self.error is not None:
            raise self.error
        return self.groups


@pytest.fixture(scope="module")
def tokens_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets") / "tokens.toml"


@pytest.fixture(scope="module")
def tokens(tokens_path: Path) -> dict[str, str]:
    made = {role.value: add_token(tokens_path, f"a-{role}", role, NOW_MS - 1000) for role in Role}
    expired = add_token(tokens_path, "old", Role.SENDER, NOW_MS - 90_000_000, days=1)
    return {**made, "expired": expired, "wrong": "no-such-token"}


@pytest.fixture
def desk() -> FakeDesk:
    desk = FakeDesk()
    desk.gate.set()
    return desk


@pytest.fixture
def health() -> FakeHealth:
    return FakeHealth()


@pytest.fixture
def app(desk: FakeDesk, health: FakeHealth, tokens_path: Path, tokens: dict[str, str]) -> Any:
    doors = TokenFile(tokens_path, "the-control-token-of-the-tests", StandingClock(), print)
    return ingest_app(desk, doors, health, LIMITS)


@pytest.fixture
async def anyone(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as client:
        yield client


@pytest.fixture
def sender(anyone: httpx.AsyncClient, tokens: dict[str, str]) -> httpx.AsyncClient:
    anyone.headers["Authorization"] = f"Bearer {tokens['sender']}"
    return anyone


Refused = Callable[[httpx.Response, int], str]


@pytest.fixture
def refused() -> Refused:
    """Checks that an answer is a problem of a status, and gives its detail."""

    def check(response: httpx.Response, status: int) -> str:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        return str(response.json()["detail"])

    return check


async def test_the_answer_counts_fates_and_holds_every_line(
    sender: httpx.AsyncClient, desk: FakeDesk
) -> None:
    response = await sender.post("/v1/events", **LINES)

    assert response.status_code == 200
    assert response.json() == {
        "accepted": 2,
        "duplicate": 0,
        "rejected": 0,
        "lines": [{"line": 1, "fate": "accepted"}, {"line": 2, "fate": "accepted"}],
    }
    assert desk.taken == [b"a\nb\n"]


@pytest.mark.parametrize(
    "form", ["application/json", "application/json; charset=utf-8", "APPLICATION/X-NDJSON"]
)
async def test_lines_of_json_may_call_themselves_json(sender: httpx.AsyncClient, form: str) -> None:
    response = await sender.post("/v1/events", content=b"a", headers={"Content-Type": form})

    assert response.json()["accepted"] == 1


@pytest.mark.parametrize(
    ("caller", "status"),
    [
        (None, 401),
        ("wrong", 401),
        ("expired", 401),
        ("viewer", 403),
        ("operator", 403),
        ("sender", 200),
        ("admin", 200),
    ],
)
async def test_events_are_taken_from_senders_and_admins_only(
    anyone: httpx.AsyncClient,
    desk: FakeDesk,
    tokens: dict[str, str],
    caller: str | None,
    status: int,
) -> None:
    if caller is not None:
        anyone.headers["Authorization"] = f"Bearer {tokens[caller]}"

    response = await anyone.post("/v1/events", **LINES)

    assert response.status_code == status
    assert len(desk.taken) == (status == 200)
    assert status != 401 or response.headers["www-authenticate"] == "Bearer"


def test_these_are_all_routes(app: Any) -> None:
    paths = app.openapi()["paths"]

    found = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    found.add(("GET", "/track/{platform}/{event}"))  # a plain route, faster and in no pages
    assert found == OPEN | SENDING
    pages = {"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/static-offline-docs"}
    assert {route.path for route in app.routes} - pages == {path for _, path in OPEN | SENDING}


async def test_no_other_method_opens_anything(sender: httpx.AsyncClient, desk: FakeDesk) -> None:
    # a HEAD of a link that counted would let whoever previews it click
    routes = {path: method for method, path in OPEN | SENDING}

    statuses = {
        (await sender.request(method, path.format(platform="json", event="ad_click"))).status_code
        for path, own in routes.items()
        for method in METHODS
        if method != own
    }

    assert statuses == {405}
    assert desk.taken == []


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({}, "Content-Type"),
        ({"Content-Type": "text/plain"}, "application/x-ndjson"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, "Content-Encoding"),
    ],
)
async def test_other_forms_are_refused(
    sender: httpx.AsyncClient, desk: FakeDesk, refused: Refused, headers: Any, named: str
) -> None:
    response = await sender.post("/v1/events", content=b"a", headers=headers)

    assert named in refused(response, 415)
    assert desk.taken == []


async def test_too_much_is_refused_whether_it_says_so_or_not(
    sender: httpx.AsyncClient, desk: FakeDesk, refused: Refused
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    headers = LINES["headers"]
    said = await sender.post("/v1/events", content=b"x" * 1_001, headers=headers)
    unsaid = await sender.post("/v1/events", content=pieces(), headers=headers)
    lines = await sender.post("/v1/events", content=b"x\n" * 6, headers=headers)
    most = await sender.post("/v1/events", content=b"x\n" * 5, headers=headers)

    assert "larger than 1,000 bytes" in refused(said, 413)
    assert "larger than 1,000 bytes" in refused(unsaid, 413)
    assert "more than 5 lines" in refused(lines, 413)
    assert most.json()["accepted"] == 5
    assert len(desk.taken) == 1


async def test_what_can_not_be_kept_is_refused_with_a_time_to_come_again(
    sender: httpx.AsyncClient, desk: FakeDesk, refused: Refused
) -> None:
    desk.error = StoreUnavailable("the disk is full")

    answers = [await sender.post("/v1/events", **LINES), await sender.get("/track/json/ad_click")]

    details = [refused(answer, 503) for answer in answers]
    assert details == ["the disk is full", "can't be kept now; send it again"]
    assert [answer.headers["retry-after"] for answer in answers] == ["1", "1"]


async def test_an_error_that_nobody_expected_says_nothing_of_itself(
    sender: httpx.AsyncClient, desk: FakeDesk, refused: Refused
) -> None:
    desk.error = ZeroDivisionError("a secret of the stack")

    assert "secret" not in refused(await sender.post("/v1/events", **LINES), 500)


async def test_beyond_the_room_for_requests_nobody_waits(
    sender: httpx.AsyncClient, desk: FakeDesk, refused: Refused
) -> None:
    desk.gate.clear()
    first = asyncio.create_task(sender.get("/track/json/ad_click?a=1"))
    await desk.entered.wait()

    notice = await sender.get("/track/json/ad_click?a=2")
    batch = asyncio.create_task(sender.post("/v1/events", **LINES))
    await asyncio.sleep(0)
    desk.gate.set()

    assert (await first).status_code == (await batch).status_code == 200
    assert "send the same again" in refused(notice, 503)
    assert notice.headers["retry-after"] == "1"
    assert (await sender.get("/track/json/ad_click?a=3")).status_code == 200


async def test_room_comes_back_after_failures(sender: httpx.AsyncClient, desk: FakeDesk) -> None:
    desk.error = StoreUnavailable("away")
    failed = [await sender.get("/track/json/ad_click") for _ in range(5)]
    desk.error = None

    assert {answer.status_code for answer in failed} == {503}
    assert (await sender.get("/track/json/ad_click")).status_code == 200


@pytest.mark.parametrize("fate", [Fate.ACCEPTED, Fate.DUPLICATE])
async def test_a_notice_needs_no_token_and_its_answer_is_never_cached(
    anyone: httpx.AsyncClient, desk: FakeDesk, fate: Fate
) -> None:
    desk.fate = LineFate(1, fate)

    response = await anyone.get("/track/json/ad_click?strategy=%E4%B8%80&sig=1")

    assert (response.status_code, response.json()) == (200, {"fate": fate.value})
    assert response.headers["cache-control"] == "no-store"
    assert desk.taken == [("json", "ad_click", b"strategy=%E4%B8%80&sig=1")]


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        (LineRule.UNKNOWN_LINK, 404),
        (LineRule.BAD_SIGNATURE, 403),
        (LineRule.BAD_TAG, 403),
        (LineRule.BAD_TS, 400),
        (LineRule.TOO_OLD, 400),
    ],
)
async def test_a_notice_that_does_not_count_is_refused_with_its_fault(
    anyone: httpx.AsyncClient, desk: FakeDesk, refused: Refused, rule: LineRule, status: int
) -> None:
    desk.fate = LineFate(1, Fate.REJECTED, "ts_ms", rule, "is wrong")

    response = await anyone.get("/track/json/ad_click")

    assert refused(response, status) == "ts_ms: is wrong"
    assert (response.json()["field"], response.json()["rule"]) == ("ts_ms", rule.value)


async def test_readiness_tells_what_each_group_has_to_do(
    anyone: httpx.AsyncClient, health: FakeHealth
) -> None:
    health.groups = {"fresh": GroupHealth(3, 1, 0.5)}

    ready = await anyone.get("/readyz")
    health.groups["archive"] = GroupHealth(9, 0, 700.0, stuck=True, trouble="the disk is full")
    stuck = await anyone.get("/readyz")

    moving = {"unread": 3, "unacknowledged": 1, "lag_s": 0.5, "stuck": False, "trouble": ""}
    assert (ready.status_code, ready.json()["groups"]) == (200, {"fresh": moving})
    assert (stuck.status_code, stuck.json()["ready"]) == (503, False)
    assert stuck.json()["reason"] == "archive: the disk is full"
    assert stuck.json()["groups"]["fresh"] == moving


@pytest.mark.parametrize("error", [StoreUnavailable("the store is away"), TimeoutError()])
async def test_a_port_that_does_not_know_its_health_is_not_ready(
    anyone: httpx.AsyncClient, health: FakeHealth, error: Exception
) -> None:
    health.error = error

    response = await anyone.get("/readyz")

    assert (response.status_code, response.json()["ready"]) == (503, False)
    assert response.json()["reason"] in ("the store is away", "no answer within 2 s")


async def test_the_background_runs_from_start_to_stop(
    desk: FakeDesk, health: FakeHealth, tokens_path: Path
) -> None:
    told: list[str] = []
    started = asyncio.Event()

    async def background() -> None:
        told.append("begins")
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append("ends")

    doors = TokenFile(tokens_path, "the-control-token-of-the-tests", StandingClock(), print)
    app = ingest_app(desk, doors, health, background=background)
    async with app.router.lifespan_context(app):
        await started.wait()
        assert told == ["begins"]

    assert told == ["begins", "ends"]


async def test_liveness_asks_nobody(anyone: httpx.AsyncClient, health: FakeHealth) -> None:
    health.error = StoreUnavailable("away")

    assert (await anyone.get("/livez")).json() == {"status": "alive"}
