"""Servers under test: started on one core, stopped in time while another is measured."""

import contextlib
import http
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """One server to measure: how it starts and where it listens."""

    name: str
    argv: Sequence[str]
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    ready_path: str = ""
    """Answers 200 to GET once the server is ready; without it, listening is readiness."""


def free_port() -> int:
    """Find a port of the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Let processes that start in here run on one core only, where the machine has several."""
    cores = os.sched_getaffinity(0)
    if core in cores:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _is_ready(target: Target) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=1)
    try:
        connection.connect()
        if not target.ready_path:
            return True
        connection.request("GET", target.ready_path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Server:
    """A target that runs as a process group of its own, on a core, until the block ends."""

    def __init__(self, target: Target, log: Path, core: int = 0) -> None:
        self.target = target
        self._log = log
        self._core = core
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start, and wait until it is ready; raises RuntimeError with its log when it does not."""
        with on_core(self._core), self._log.open("wb") as log:
            self._process = subprocess.Popen(
                list(self.target.argv),
                env={**os.environ, **self.target.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it, kindly and then not."""
        self._stop()

    @property
    def pid(self) -> int:
        """The process id; the server runs."""
        if self._process is None:
            raise RuntimeError(f"{self.target.name} was not started")
        return self._process.pid

    def pause(self) -> None:
        """Stand the whole group still, so that it costs the others nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            if process.poll() is not None:
                break
            if _is_ready(self.target):
                return
            time.sleep(0.05)
        tail = self._log.read_text(errors="replace")[-2_000:]
        raise RuntimeError(f"{self.target.name} is not ready on port {self.target.port}:\n{tail}")

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        self.resume()
        self._signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            process.wait()
