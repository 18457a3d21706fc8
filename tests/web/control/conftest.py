"""The control app in process, over desks in memory, real tokens and a real store for retries."""

import functools
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import pytest

from rta_service.domain.access import Actor, Role
from rta_service.domain.audit import AuditEntry
from rta_service.domain.command import Command, ModelState, Pending
from rta_service.domain.errors import (
    Fault,
    InvalidInput,
    NotAllowed,
    StoreUnavailable,
    UnknownName,
)
from rta_service.domain.release import ModelRef, Release
from rta_service.domain.request import AdRequest
from rta_service.domain.rollout import Action, Phase
from rta_service.platforms.base import Adapter
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.idempotency import IdempotencyStore
from rta_service.stores.redis import admin_client
from rta_service.stores.token_file import TokenFile, add_token
from rta_service.web.control import Desks, control_app
from rta_service.web.control_routes import control_routes
from rta_service.web.gate import Gate
from rta_service.web.idempotency import Idempotency
from rta_service.web.trial_routes import outcome_routes, trial_routes
from rta_service.web.upload_routes import UploadLimits

NOW_MS = 1_717_286_400_000
CONTROL_TOKEN = "the-control-token-of-the-tests"
REF = ModelRef("trade", "v1", "0" * 64)
MAX_UPLOAD = 3_000_000

_COUNTER = itertools.count()


class FakeClock:
    def now_ms(self) -> int:
        return NOW_MS

    def monotonic_s(self) -> float:
        return 100.0


@dataclass
class FakeDesk:
    """Releases in a list, and a memory of what was asked."""

    releases: list[Release] = field(
        default_factory=lambda: [Release(r, "snap", (REF,), "st", 0) for r in ("r2", "r1")]
    )
    error: Exception | None = None
    asked: list[Any] = field(default_factory=list)
    waiting: list[Pending] = field(default_factory=list)
    slow_s: float = 0.0

    def current_id(self) -> str:
        return self.releases[0].release_id if self.releases else ""

    def current(self) -> Release | None:
        return self.releases[0] if self.releases else None

    def history(self, count: int) -> list[Release]:
        self._ask(count)
        return self.releases[:count]

    def rollback(self, who: str, why: str, decided_on: str) -> Release:
        self._ask((who, why, decided_on))
        del self.releases[0]
        return self.releases[0]

    def models(self) -> list[ModelState]:
        self._ask("models")
        return [ModelState("trade", "v1", "0" * 64, Phase.LIVE, 1_000_000, NOW_MS, "ci", "u1")]

    def show(self, name: str, version: str) -> dict[str, Any]:
        self._ask((name, version))
        if version != "v1":
            raise UnknownName("is not registered", f"model {name}@{version}")
        return {"state": msgspec.to_builtins(self.models()[0])}

    def diff(self, name: str, one: str, other: str) -> dict[str, Any]:
        self._ask((name, one, other))
        return {"name": name, "from": one, "to": other}

    def act(self, command: Command, who: Actor) -> Release | Pending:
        self._ask((command, who))
        time.sleep(self.slow_s)
        if command.skip and who.role is not Role.ADMIN:
            raise NotAllowed(f"{who.name} has the role {who.role}; this needs the role admin")
        if command.why == "two persons":
            wish = Pending("w1", command, who.name, NOW_MS, NOW_MS + 1)
            self.waiting.append(wish)
            return wish
        self.releases.insert(0, Release(f"r{len(self.releases) + 1}", "snap", (REF,), "st", 0))
        return self.releases[0]

    def approve(self, pending_id: str, who: Actor, decided_on: str = "") -> Release:
        self._ask((pending_id, who, decided_on))
        return self.releases[0]

    def withdraw(self, pending_id: str, who: Actor) -> Pending:
        self._ask((pending_id, who))
        return Pending(pending_id, Command(Action.LIVE), "ci", NOW_MS, NOW_MS + 1)

    def pending(self) -> list[Pending]:
        return self.waiting

    def log(self, count: int) -> list[AuditEntry]:
        self._ask(count)
        return [AuditEntry(NOW_MS, "ci", "live", "live trade@v1", "better", "r2", "r1")]

    def _ask(self, what: object) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error


class FakeReceived:
    """An upload in memory."""

    def __init__(self, desk: "FakeUploads") -> None:
        self._desk = desk
        self.body = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._desk.open -= 1

    @property
    def sha256(self) -> str:
        return sha256(self.body).hexdigest()

    def write(self, chunk: bytes) -> None:
        self._desk.disk()
        if len(self.body) + len(chunk) > MAX_UPLOAD:
            raise InvalidInput("is too large", "upload")
        self.body += chunk


class FakeVerdict(msgspec.Struct):
    accepted: bool
    reason: str = ""
    ref: ModelRef | None = None
    faults: tuple[Fault, ...] = ()


@dataclass
class FakeUploads:
    """Accepts what begins with `good`, knows what it has seen, refuses the rest."""

    open: int = 0
    accepted: list[tuple[bytes, str, str, str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    disk: Callable[[], None] = field(default=lambda: None)
    max_bytes: int = MAX_UPLOAD

    def __post_init__(self) -> None:
        self.gate.set()

    def receive(self) -> FakeReceived:
        self.open += 1
        return FakeReceived(self)

    def accept(self, received: FakeReceived, name: str, who: str, why: str) -> FakeVerdict:
        self.entered.release()
        self.gate.wait(10)
        if not received.body.startswith(b"good"):
            fault = Fault(12, 3, "left_child", "node 4 is reached twice")
            return FakeVerdict(False, "structure: unsound", None, (fault,))
        known = any(received.body == body for body, *_ in self.accepted)
        self.accepted.append((received.body, name, who, why))
        return FakeVerdict(True, "known" if known else "", ModelRef(name, "v9", "1" * 64))


class FakeTrials:
    """Models on trial of which nothing is known."""

    def shadows(self) -> list[Any]:
        return []

    def take_outcomes(self, body: bytes, who: Actor) -> list[Any]:
        return []

    def autopilot(self) -> dict[str, Any]:
        return {"on": False}

    def switch_autopilot(self, who: Actor, why: str, *, on: bool) -> dict[str, Any]:
        return {"on": on}


class FakeStatus:
    """Cost control of one unit."""

    def units(self) -> list[dict[str, Any]]:
        return [self.unit("spring@json")]

    def unit(self, unit_id: str) -> dict[str, Any]:
        return {"unit": unit_id}


async def _explain(request: AdRequest) -> dict[str, Any]:
    if request.request_id == "no-store":
        raise StoreUnavailable("the store is away")
    if request.request_id == "bug":
        raise ZeroDivisionError("a secret of the stack")
    return {"explained": request.request_id, "platform": request.platform.name}


@pytest.fixture(scope="session")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedStore(tmp_path_factory.mktemp("store")) as store:
        yield store.url


@pytest.fixture(scope="session")
def tokens_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets") / "tokens.toml"


@pytest.fixture(scope="session")
def tokens(tokens_path: Path) -> dict[str, str]:
    """A token for each role, one that is over, and one that never was."""
    made = {role.value: add_token(tokens_path, f"a-{role}", role, NOW_MS - 1000) for role in Role}
    expired = add_token(tokens_path, "old", Role.ADMIN, NOW_MS - 90_000_000, days=1)
    return {**made, "expired": expired, "wrong": made["admin"][:-1] + "!", "control": CONTROL_TOKEN}


@dataclass
class Port:
    """The app, made once since that takes long, and what each test finds fresh behind it."""

    desk: FakeDesk
    uploads: FakeUploads
    answers: IdempotencyStore
    gate: Gate
    app: Any


@pytest.fixture(scope="session")
def lasting_port(
    store_url: str, tokens_path: Path, tokens: dict[str, str], adapters: dict[str, Adapter]
) -> Iterator[Port]:
    client = admin_client(store_url)
    desk, uploads = FakeDesk(), FakeUploads()
    doors = TokenFile(tokens_path, CONTROL_TOKEN, FakeClock(), print)
    gate = Gate(doors, Idempotency(lambda: made.answers), desk.current_id)
    limits = UploadLimits(idle_s=0.3, total_s=5.0)
    desks = Desks(desk, desk, uploads, limits, _explain, lambda: b"rta_up 1\n")
    more = [functools.partial(make, desk=FakeTrials()) for make in (trial_routes, outcome_routes)]
    more.append(functools.partial(control_routes, desk=FakeStatus()))
    app = control_app(gate, desks, adapters, more)
    made = Port(desk, uploads, IdempotencyStore(client, "none"), gate, app)
    yield made
    client.close()


@pytest.fixture
def fresh_port(lasting_port: Port, store_url: str) -> Iterator[Port]:
    """Everything as it was in the beginning."""
    vars(lasting_port.desk).update(vars(FakeDesk()))
    vars(lasting_port.uploads).update(vars(FakeUploads()))
    with admin_client(store_url) as client:
        lasting_port.answers = IdempotencyStore(client, f"web{next(_COUNTER)}")
        yield lasting_port


@pytest.fixture
def desk(fresh_port: Port) -> FakeDesk:
    return fresh_port.desk


@pytest.fixture
def uploads(fresh_port: Port) -> FakeUploads:
    return fresh_port.uploads


@pytest.fixture
def gate(fresh_port: Port) -> Gate:
    return fresh_port.gate


@pytest.fixture
def app(fresh_port: Port) -> Any:
    return fresh_port.app


@pytest.fixture
async def client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token; errors that nobody expected come as answers."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


@pytest.fixture
def operator(client: httpx.AsyncClient, tokens: dict[str, str]) -> httpx.AsyncClient:
    """The client with an operator's token."""
    client.headers["Authorization"] = f"Bearer {tokens['operator']}"
    return client


@pytest.fixture
def as_role(tokens: dict[str, str]) -> Callable[[str], dict[str, str]]:
    return lambda role: {"Authorization": f"Bearer {tokens[role]}"}
