"""Playing traffic at a running service over real HTTP, and keeping every answer."""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpx
from rich.progress import Progress

from rta_service.config import Settings
from rta_service.demo.platforms import CONTENT_TYPES, ENCODERS, PATHS, READERS, Answer
from rta_service.domain.clock import Clock
from rta_service.domain.errors import StartupError
from rta_service.simulation.client import run_load
from rta_service.simulation.load import LoadPlan, LoadResult, PreparedRequest
from rta_service.simulation.traffic import SimulatedRequest, encode_traffic
from rta_service.supervisor.lifeline import PARENT_FD

READY_S: Final = 60.0
STOP_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Played:
    """What was asked and answered."""

    requests: Sequence[SimulatedRequest]
    answers: Sequence[Answer | str | None]
    """In the order of the requests: what the platform read, how the answer was invalid, or None
    where none came."""
    load: LoadResult
    latencies_s: Sequence[float] = ()
    """Of each request from its scheduled instant, in the order of the requests; 0 unanswered."""


@contextmanager
def running_service(settings: Settings, clock: Clock) -> Iterator[subprocess.Popen[bytes]]:
    """Run `rta serve` in a process of its own until the block ends.

    Raises StartupError with what it said when it does not become ready.
    """
    command = [sys.executable, "-m", "rta_service", "serve"]
    log_path = settings.data_dir / "serve.log"
    lifeline, ours = os.pipe()  # when this process dies, however, the service sees the end of it
    environment = {**os.environ, **settings.as_environment(), PARENT_FD: str(lifeline)}
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdout=log,
            stderr=log,
            env=environment,
            pass_fds=(lifeline,),
            start_new_session=True,
        )
    try:
        _await_ready(process, settings, clock)
        yield process
    except StartupError as error:
        words = log_path.read_text(errors="replace").strip().splitlines()[-5:]
        raise StartupError(f"{error}: {' | '.join(words)}") from error
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(lifeline)  # not before: the end of it is a second signal, which ends all patience
        os.close(ours)


def _await_ready(process: subprocess.Popen[bytes], settings: Settings, clock: Clock) -> None:
    end_s = clock.monotonic_s() + READY_S
    probes = [f"http://127.0.0.1:{settings.control_port}/livez"]
    probes.append(f"http://127.0.0.1:{settings.ingest_port}/livez")
    probes.append(f"http://127.0.0.1:{settings.port}/readyz")
    with httpx.Client(timeout=2.0) as client:
        while clock.monotonic_s() < end_s:
            if process.poll() is not None:
                raise StartupError(f"the service ended with code {process.returncode}")
            if all(_answers(client, probe) for probe in probes):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
    raise StartupError(f"the service was not ready within {READY_S:.0f} s")


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def play(
    requests: Sequence[SimulatedRequest], port: int, rate_per_s: float, progress: Progress
) -> Played:
    """Send requests on a fixed schedule and read every answer as its platform would."""
    prepared = [
        PreparedRequest(PATHS[request.platform], body, CONTENT_TYPES[request.platform])
        for request, body in encode_traffic(requests, ENCODERS)
    ]
    answers: list[Answer | str | None] = [None] * len(requests)
    latencies_s = [0.0] * len(requests)
    step = progress.add_task("playing platform requests", total=len(requests))

    def on_answer(index: int, status: int, body: bytes, latency_s: float) -> None:
        request = requests[index]
        latencies_s[index] = latency_s
        answers[index] = READERS[request.platform](status, body, request.request_id)
        if index % 200 == 0:
            progress.update(step, completed=index)

    plan = LoadPlan(connections=32, rate_per_s=rate_per_s, duration_s=60.0)
    gc.collect()
    gc.freeze()  # the world is in this process: collecting it would stall the generator for 0.1 s
    load = asyncio.run(run_load(("127.0.0.1", port), prepared, plan, on_answer))
    gc.unfreeze()
    progress.update(step, completed=len(requests))
    return Played(requests, answers, load, latencies_s)
