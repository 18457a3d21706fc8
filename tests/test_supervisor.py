import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rta_service.domain.errors import StartupError, StoreUnavailable
from rta_service.supervisor import (
    EXIT_CONFIG,
    ChildSpec,
    Patience,
    Supervisor,
    Surroundings,
    bind_listener,
    tell_ready,
    watch_parent,
)
from rta_service.supervisor.backoff import Backoff

PATIENT_S = 15.0
"""For things that happen at once on an idle machine."""

BEGIN = """
import os, signal, socket, sys, time
from rta_service.supervisor.lifeline import tell_ready, watch_parent
watch_parent(os.environ, grace_s=0.2)
"""
IDLE = BEGIN + "tell_ready(os.environ); signal.pause()"
STUBBORN = (
    BEGIN
    + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntell_ready(os.environ)\n"
    + ("while True: time.sleep(1)")
)
SERVING = BEGIN + (
    "listener = socket.socket(fileno=int(sys.argv[1]))\ntell_ready(os.environ)\n"
    "while True:\n    peer, _ = listener.accept()\n"
    "    peer.sendall(str(os.getpid()).encode()); peer.close()"
)
DRAINING = BEGIN + (
    "def drain(*_):\n    time.sleep(0.3); open(sys.argv[1], 'w').write('drained'); sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, drain); tell_ready(os.environ); signal.pause()"
)


def a_child(code: str, *args: str, name: str = "decision-0", **fields: Any) -> ChildSpec:
    return ChildSpec(name, (sys.executable, "-c", code, *args), "decision", **fields)


def patience(**seconds: float) -> Patience:
    return Patience(**{"first_pause_s": 0.02, "ready_s": PATIENT_S, "store_poll_s": 0.01} | seconds)


class CountingObserver:
    def __init__(self) -> None:
        self.up: list[int] = []
        self.restarts: list[str] = []

    def set_workers_up(self, kind: str, count: int) -> None:
        self.up.append(count)

    def count_restart(self, kind: str) -> None:
        self.restarts.append(kind)


class FakeStore:
    """A store that starts and dies on command."""

    def __init__(self, *, at_stop: Callable[[], None] = lambda: None) -> None:
        self.alive = False
        self.starts = 0
        self.failures = 0
        self._at_stop = at_stop

    def start(self) -> str:
        self.starts += 1
        if self.starts in range(2, 2 + self.failures):
            raise StoreUnavailable("the store does not come up")
        self.alive = True
        return "unix:///store.sock"

    def is_alive(self) -> bool:
        return self.alive

    def stop(self) -> None:
        self._at_stop()
        self.alive = False


class Log(io.StringIO):
    """A log that tells when something is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


class Stage:
    """A supervisor running in this process, and what it said."""

    def __init__(
        self, *children: ChildSpec, store: FakeStore | None = None, **waits: float
    ) -> None:
        self.observer = CountingObserver()
        self.announced: list[str] = []
        self._log = Log()
        outside = Surroundings(
            observer=self.observer,
            log=self._log,
            on_ready=lambda: self.announced.append("ready"),
        )
        self.supervisor = Supervisor(children, store, patience(**waits), outside)

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    async def until(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        async with asyncio.timeout(PATIENT_S):
            while len(self.said(event)) < count:
                self._log.written.clear()
                await self._log.written.wait()
        return self.said(event)

    def play(self, act: Callable[[], Coroutine[Any, Any, None]]) -> int:
        async def run() -> int:
            running = asyncio.ensure_future(self.supervisor.run())
            try:
                await act()
            finally:
                self.supervisor.stop()
                code = await running
            return code

        return asyncio.run(run())


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rsplit(") ", 1)[1][0] != "Z"


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENT_S
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_a_killed_child_is_started_again() -> None:
    stage = Stage(a_child(IDLE))

    async def act() -> None:
        (first,) = await stage.until("child_ready")
        os.kill(first["pid"], signal.SIGKILL)
        await stage.until("child_ready", 2)

    code = stage.play(act)

    (death,) = stage.said("child_died")
    pids = {ready["pid"] for ready in stage.said("child_ready")}
    assert code == 0
    assert death["code"] == -signal.SIGKILL
    assert len(pids) == 2
    assert stage.observer.restarts == ["decision"]
    assert stage.observer.up == [1, 0, 1, 0]


def test_readiness_is_announced_once_when_all_children_have_been_ready() -> None:
    stage = Stage(a_child(IDLE), a_child(IDLE, name="decision-1"))

    async def act() -> None:
        await stage.until("ready")
        os.kill(stage.said("child_ready")[0]["pid"], signal.SIGKILL)
        await stage.until("child_ready", 3)

    stage.play(act)

    assert stage.announced == ["ready"]
    assert max(stage.observer.up) == 2


def test_a_child_that_keeps_dying_is_reported_each_time_with_growing_pauses() -> None:
    stage = Stage(a_child("raise SystemExit(3)"), longest_pause_s=0.05)

    async def act() -> None:
        await stage.until("child_died", 4)

    stage.play(act)

    deaths = stage.said("child_died")[:4]
    assert [death["retry_in_s"] for death in deaths] == [0.02, 0.04, 0.05, 0.05]
    assert {death["code"] for death in deaths} == {3}


@given(st.lists(st.floats(0, 20), min_size=1, max_size=30))
def test_pauses_double_up_to_the_longest_and_begin_anew_after_health(lives: list[float]) -> None:
    backoff = Backoff(first_s=0.1, longest_s=5.0, healthy_s=10.0)
    expected = 0.1

    for position, lived_s in enumerate(lives):
        expected = min(2 * expected, 5.0) if position and lived_s < 10.0 else 0.1
        assert backoff.pause_after(lived_s) == pytest.approx(expected)


def test_a_child_that_is_not_ready_in_time_is_ended_and_tried_again() -> None:
    stage = Stage(a_child("import time; time.sleep(60)"), ready_s=0.1)

    async def act() -> None:
        await stage.until("child_not_ready", 2)

    stage.play(act)

    assert stage.said("child_died")[0]["code"] == -signal.SIGTERM
    assert stage.observer.up == []


def test_a_child_that_refuses_to_start_ends_the_service_with_its_code() -> None:
    stage = Stage(a_child(IDLE), a_child(f"raise SystemExit({EXIT_CONFIG})", name="control"))

    code = asyncio.run(stage.supervisor.run())

    assert code == EXIT_CONFIG
    assert stage.said("child_refused")[0]["child"] == "control"
    assert stage.said("ready") == []


def test_a_program_that_does_not_exist_is_an_error_of_the_caller() -> None:
    stage = Stage(ChildSpec("decision-0", ("/nowhere/rta",)))

    with pytest.raises(FileNotFoundError):
        asyncio.run(stage.supervisor.run())


def test_children_finish_their_work_before_the_store_stops(tmp_path: Path) -> None:
    seen_at_stop: list[str] = []
    left = tmp_path / "drained"
    store = FakeStore(at_stop=lambda: seen_at_stop.append(left.read_text()))
    stage = Stage(a_child(DRAINING, str(left)), store=store)

    async def act() -> None:
        await stage.until("ready")

    code = stage.play(act)

    assert code == 0
    assert seen_at_stop == ["drained"]
    assert not store.alive
    assert stage.said("child_killed") == []


def test_a_child_that_does_not_finish_in_time_is_killed() -> None:
    stage = Stage(a_child(STUBBORN), drain_s=0.1)

    async def act() -> None:
        await stage.until("ready")

    code = stage.play(act)

    assert code == 0
    assert len(stage.said("child_killed")) == 1


def test_a_second_request_to_stop_ends_the_patience() -> None:
    stage = Stage(a_child(STUBBORN), drain_s=600.0)

    async def act() -> None:
        await stage.until("ready")
        stage.supervisor.stop()

    stage.play(act)

    assert len(stage.said("child_killed")) == 1


def test_a_store_that_died_is_started_again_until_it_comes_up() -> None:
    store = FakeStore()
    store.failures = 2
    stage = Stage(a_child(IDLE), store=store)

    async def act() -> None:
        await stage.until("ready")
        store.alive = False
        await stage.until("store_started")

    stage.play(act)

    assert store.starts == 4
    assert len(stage.said("store_not_started")) == 2
    assert stage.observer.restarts == ["store"] * 3


def test_a_store_that_runs_already_is_only_looked_after() -> None:
    store = FakeStore()
    store.alive = True
    stage = Stage(a_child(IDLE), store=store)

    async def act() -> None:
        await stage.until("ready")

    stage.play(act)

    assert store.starts == 0
    assert not store.alive


def test_two_children_share_one_listening_socket_and_one_may_die() -> None:
    def ask() -> int:
        with socket.create_connection(listener.getsockname(), timeout=PATIENT_S) as peer:
            return int(peer.recv(32))

    with bind_listener("127.0.0.1", 0) as listener:
        fd = listener.fileno()
        first = a_child(SERVING, str(fd), pass_fds=(fd,))
        second = a_child(SERVING, str(fd), name="decision-1", pass_fds=(fd,))
        stage = Stage(first, second)

        async def act() -> None:
            await stage.until("ready")
            pids = {ready["pid"] for ready in stage.said("child_ready")}
            wait_until(lambda: ask() == min(pids))
            wait_until(lambda: ask() == max(pids))
            os.kill(min(pids), signal.SIGKILL)
            wait_until(lambda: not exists(min(pids)))
            assert ask() == max(pids)

        stage.play(act)


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with bind_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]

        with pytest.raises(StartupError, match=f"port {port}: the port is in use; stop what"):
            bind_listener("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(StartupError, match="no such address"):
        bind_listener("192.0.2.1", 0)


def test_a_name_that_is_no_address_is_refused() -> None:
    with pytest.raises(StartupError, match="can't listen on no address port 0"):
        bind_listener("no address", 0)


def test_a_supervisor_runs_off_the_main_thread_and_is_stopped_by_a_call() -> None:
    stage = Stage(a_child(IDLE))

    async def act() -> None:
        await stage.until("ready")

    with ThreadPoolExecutor(1) as thread:
        code = thread.submit(stage.play, act).result(PATIENT_S)

    assert code == 0
    assert stage.said("stopped")[0]["code"] == 0


def test_without_a_supervisor_a_child_has_nobody_to_tell_or_watch() -> None:
    tell_ready({})

    assert watch_parent({}) is None


@pytest.fixture
def service(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A supervisor in a process of its own, over one child that must be killed hard."""
    code = (
        "import sys; from rta_service.supervisor import *\n"
        "spec = ChildSpec('decision-0', (sys.executable, '-c', sys.argv[1]))\n"
        "sys.exit(Supervisor([spec], patience=Patience(drain_s=0.2)).serve())"
    )
    command = (sys.executable, "-c", code, STUBBORN)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def child_of(service: subprocess.Popen[str]) -> int:
    assert service.stderr is not None
    ready = json.loads(service.stderr.readline())
    assert json.loads(service.stderr.readline())["event"] == "ready"
    return int(ready["pid"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_service_cleanly(
    service: subprocess.Popen[str], number: signal.Signals
) -> None:
    child = child_of(service)

    service.send_signal(number)

    assert service.wait(PATIENT_S) == 0
    assert not exists(child)


def test_children_end_when_the_supervisor_is_killed(service: subprocess.Popen[str]) -> None:
    child = child_of(service)

    service.kill()
    service.wait(PATIENT_S)

    wait_until(lambda: not exists(child))
