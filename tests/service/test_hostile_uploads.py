"""Hostile uploads to a service under load: each is refused by name or harmless, nobody suffers."""

import logging
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from rta_service import wiring
from rta_service.demo.judging import judge
from rta_service.demo.platforms import Answer
from rta_service.demo.play import Played
from rta_service.domain.access import Role
from rta_service.domain.clock import SystemClock
from rta_service.domain.reason import DEGRADED
from rta_service.scoring.bundle import MAX_BYTES
from rta_service.scoring.model_file import object_path, read_model
from rta_service.simulation.hostile_bundles import HostileUpload, hostile_uploads
from rta_service.stores.model_folder import latest_bundles
from rta_service.stores.token_file import add_token

MODELS = ("register", "trade", "value")
RATE_PER_S = 200.0
ROUND = 600
"""Requests that are sent and then judged together: three seconds of load."""
PLATFORM_MS = 60.0
"""How long a platform waits for an answer."""
FEW = 0.02
"""Beyond this share of late or degraded answers a platform sends less."""
ALIVE_S = 2.0
"""How long the control port may take to say that it lives: it judges uploads at that time."""
GROWTH = 0.02
EVERY_SO_MANY = 10
"""Of so many uploads, one more is begun and broken off."""

log = logging.getLogger(__name__)


@dataclass
class Watch:
    """Asks as platforms do, and the control port whether it lives, all the time."""

    service: Any
    played: list[Played] = field(default_factory=list)
    asked_s: list[int] = field(default_factory=list)
    """When each round was over: stages turn with time."""
    alive_s: list[float] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()
        work = (self._ask, self._probe)
        threads = [threading.Thread(target=one, args=(stop,)) for one in work]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _ask(self, stop: threading.Event) -> None:
        while not stop.is_set():
            requests = self.service.requests(ROUND, seed=len(self.played))
            self.played.append(self.service.ask(requests, RATE_PER_S))
            self.asked_s.append(SystemClock().now_ms() // 1000)

    def _probe(self, stop: threading.Event) -> None:
        address = f"http://127.0.0.1:{self.service.settings.control_port}"
        with httpx.Client(base_url=address, timeout=10.0) as client:
            while not stop.wait(0.1):
                began_s = time.monotonic()
                try:
                    answer = client.get("/livez")
                except httpx.HTTPError as error:
                    self.dead.append(repr(error))
                    continue
                self.alive_s.append(time.monotonic() - began_s)
                if answer.status_code != httpx.codes.OK:
                    self.dead.append(f"status {answer.status_code}")

    def late(self) -> float:
        """Give the share of answers that a platform would no longer have waited for."""
        return float(np.mean(self.latencies_ms() > PLATFORM_MS))

    def degraded(self) -> float:
        """Give the share of the json platform's answers that were degraded."""
        words = {reason.label for reason in DEGRADED}
        answers = [a for p in self.played for a in p.answers if isinstance(a, Answer) and a.reason]
        return sum(answer.reason in words for answer in answers) / len(answers)

    def latencies_ms(self) -> Any:
        """Give all latencies, from the real sending: the generator's own lag is not the service's."""
        return np.concatenate(
            [
                1000 * (np.array(p.latencies_s) - np.frombuffer(p.load.send_lags))
                for p in self.played
            ]
        )


@dataclass(frozen=True)
class Process:
    """One of the service's own."""

    name: str
    pid: int
    rss_kb: int


def events(service: Any) -> list[dict[str, Any]]:
    lines = (service.settings.data_dir / "serve.log").read_text().splitlines()
    return [msgspec.json.decode(line) for line in lines if line.startswith("{")]


def processes(service: Any) -> dict[str, Process]:
    """Give what was ever started, by its pid; raises for one that is gone."""
    found = {}
    for event in events(service):
        if event["event"] == "child_ready":
            status = Path(f"/proc/{event['pid']}/status").read_text()
            rss_kb = int(status.split("VmRSS:")[1].split()[0])
            found[event["child"]] = Process(event["child"], event["pid"], rss_kb)
    return found


@dataclass
class Sender:
    """Uploads with an operator's token, and judges what became of each."""

    service: Any
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = self.service.settings
        now_ms = SystemClock().now_ms()
        self._token = add_token(settings.tokens_path, "mallory", Role.OPERATOR, now_ms)
        headers = {"Authorization": f"Bearer {self._token}"}
        address = f"http://127.0.0.1:{settings.control_port}"
        self._client = httpx.Client(base_url=address, headers=headers, timeout=60.0)
        self._bundles = {
            bundle.parent.name: bundle
            for bundle in latest_bundles(settings.data_dir / "trained")
            if bundle.parent.name in MODELS
        }

    def close(self) -> None:
        self._client.close()

    def uploads(self, name: str, seed: int, count: int) -> Iterator[HostileUpload]:
        bundle = self._bundles[name]
        files = {n: (bundle / n).read_bytes() for n in MAX_BYTES if (bundle / n).is_file()}
        yield from hostile_uploads(files, wiring.house_key(self.service.settings), seed, count)

    def send(self, name: str, upload: HostileUpload) -> None:
        began_s = time.monotonic()
        answer = self._post(name, upload.data)
        self.seconds.append(time.monotonic() - began_s)
        document = answer.json()
        if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            gates = document["verdict"]["gates"]
            failed = [gate["name"] for gate in gates if gate["outcome"] == "failed"]
            assert document["detail"].startswith(f"{failed[0]}: "), upload.kind
            self.outcomes[(upload.kind, failed[0])] += 1
            return
        assert answer.status_code in (httpx.codes.CREATED, httpx.codes.OK), (upload.kind, document)
        self._check_same(name, upload.kind, document["verdict"]["ref"]["sha256"])
        self.outcomes[(upload.kind, "same")] += 1

    def _post(self, name: str, data: bytes) -> httpx.Response:
        """Send; a broken-off upload's turn may need a moment to become free again."""
        for _ in range(50):
            answer = self._client.post(f"/v1/models/{name}/versions", content=data)
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                return answer
            threading.Event().wait(0.1)
        raise AssertionError("the turns of broken-off uploads never became free")

    def _check_same(self, name: str, kind: str, sha256: str) -> None:
        """Prove that what was stored scores like the live model, whose bundle was changed."""
        folder = self.service.settings.models_folder
        live = next(ref for ref in self.service.world.release.models if ref.name == name)
        manifest, forest = read_model(object_path(folder, sha256), sha256)
        expected, origin = read_model(object_path(folder, live.sha256), live.sha256)
        assert forest.digest() == origin.digest(), kind
        if "manifest" not in kind:  # a signed manifest is its signer's word
            assert manifest.calibration == expected.calibration, kind

    def break_off(self, name: str, upload: HostileUpload, how: int) -> None:
        """Begin an upload and go away: with a reset, silently, in a chunk, or asking too much."""
        size = len(upload.data) if how != 3 else 10**12
        length = "Transfer-Encoding: chunked" if how == 2 else f"Content-Length: {size}"
        head = f"POST /v1/models/{name}/versions HTTP/1.1\r\nHost: x\r\n{length}\r\n"
        head += f"Authorization: Bearer {self._token}\r\n\r\n"
        chunk = b"ffffff\r\n" if how == 2 else b""
        address = ("127.0.0.1", self.service.settings.control_port)
        with socket.create_connection(address, timeout=10.0) as connection:
            connection.sendall(head.encode() + chunk + upload.data[: len(upload.data) // 2])
            if how == 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.outcomes[("broken off", "gone")] += 1


def attack(service: Any, count: int, warm: Callable[[], None]) -> Sender:
    """Send so many uploads, by turns of all models."""
    with closing(Sender(service)) as sender:
        lists = [sender.uploads(name, seed, count) for seed, name in enumerate(MODELS)]
        for number in range(count):
            name = MODELS[number % len(MODELS)]
            upload = next(lists[number % len(MODELS)])
            if number % EVERY_SO_MANY == 0:
                sender.break_off(name, upload, number // EVERY_SO_MANY % 4)
            sender.send(name, upload)
            if number == count // 4:
                warm()
    return sender


def left_behind(service: Any) -> list[Path]:
    """Give what uploads left in the folder they are received and judged in, after a moment."""
    folder = service.settings.models_folder / "uploads"
    for _ in range(50):
        if not list(folder.iterdir()):
            break
        threading.Event().wait(0.1)
    return list(folder.iterdir())


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
        pytest.param(1_500, marks=[pytest.mark.slow, pytest.mark.timeout(2_400)]),
    ],
)
def test_hostile_uploads_under_load_are_refused_by_name_or_harmless(
    start_service: Any, count: int
) -> None:
    with start_service(2) as service:
        watch = Watch(service)
        first: dict[str, Process] = {}
        with watch.running():
            sender = attack(service, count, lambda: first.update(processes(service)))
        last, remains = processes(service), left_behind(service)
        happened = {event["event"] for event in events(service)}
        checks = [
            check
            for played, now_s in zip(watch.played, watch.asked_s, strict=True)
            for check in judge(played, service.oracle(now_s), service.world.release.release_id)
        ]

    growth = {name: last[name].rss_kb / first[name].rss_kb - 1.0 for name in last}
    _report(sender, watch, growth)
    assert [c for c in checks if not c.held and "degraded" not in c.name] == []
    assert watch.degraded() <= FEW
    assert watch.late() <= FEW
    assert {name: p.pid for name, p in last.items()} == {n: p.pid for n, p in first.items()}
    assert not {event for event in happened if "died" in event or "killed" in event}
    assert max(growth["decision-0"], growth["decision-1"]) <= GROWTH
    assert watch.dead == []
    assert max(watch.alive_s) <= ALIVE_S
    assert remains == []
    assert sender.outcomes.total() >= count


def _report(sender: Sender, watch: Watch, growth: dict[str, float]) -> None:
    kinds: dict[str, Counter[str]] = {}
    for (kind, outcome), number in sender.outcomes.items():
        kinds.setdefault(kind, Counter())[outcome] += number
    for kind in sorted(kinds):
        log.warning("%-30s %s", kind, dict(kinds[kind].most_common()))
    totals: Counter[str] = Counter()
    for counts in kinds.values():
        totals.update(counts)
    log.warning("all: %s; RSS growth %s", dict(totals.most_common()), growth)
    latencies_ms = watch.latencies_ms()
    log.warning(
        "%d answers, ms p50/p99/p99.9/max %s, degraded %.3f %%; upload s p50/p99/max %s; "
        "/livez s p50/max %s",
        *(len(latencies_ms), np.percentile(latencies_ms, [50, 99, 99.9, 100]).round(1)),
        *(100 * watch.degraded(), np.percentile(sender.seconds, [50, 99, 100]).round(2)),
        np.percentile(watch.alive_s, [50, 100]).round(3),
    )
