"""The load generator as a process of its own: a job in, a measurement out.

    python -m loadtest.generate JOB

JOB is a file with a `Job` as msgpack; the `Measurement` goes to standard output as JSON. The caller
pins it to a core by its own affinity.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from time import process_time
from typing import Final

import msgspec
import uvloop

from loadtest.servers import on_core
from rta_service.domain.reason import DEGRADED
from rta_service.simulation.client import run_load
from rta_service.simulation.load import LoadPlan, PreparedRequest, percentiles

_SAMPLE_EVERY: Final = 61
"""A prime, so that sampling does not walk in step with the requests' own order."""
_DEGRADED: Final = frozenset(reason.label for reason in DEGRADED)


class Job(msgspec.Struct, frozen=True):
    """What to send where; all of one run."""

    port: int
    requests: list[PreparedRequest]
    plan: LoadPlan
    goes_first: bool = False
    """Let the generator have its core before all others, where that is allowed: it stands for
    another machine, which would not wait for what runs on this one."""
    tells_all: bool = False
    """Give every latency, for quantiles over several runs."""


class Measurement(msgspec.Struct, frozen=True):
    """What came of it; latencies in milliseconds."""

    answers_per_s: float
    answered: int
    failed: int
    """Answers with another status than 200, and requests without an answer."""
    latency_ms: dict[str, float]
    send_lag_ms: dict[str, float]
    """How late the generator itself was, in open loop."""
    generator_load: float
    """CPU seconds of the generator over wall seconds: near 1, the figures describe the generator."""
    participating: float
    """Share of yes among the sampled answers."""
    degraded: float
    """Share of emergency answers among the sampled ones: they are valid and cost nothing, so a
    server that gives them looks fast."""
    all_ms: list[float] = []
    """Each latency, where the job asks for them."""


class _Gist(msgspec.Struct):
    participate: bool = False
    reason: str = ""


async def measure(job: Job) -> Measurement:
    """Run the job in this process."""
    sampled: list[bytes] = []

    def sample(number: int, _status: int, body: bytes, _latency_s: float) -> None:
        if number % _SAMPLE_EVERY == 0:
            sampled.append(body)

    cpu_s = process_time()
    result = await run_load(("127.0.0.1", job.port), job.requests, job.plan, sample)
    cpu_s = process_time() - cpu_s
    gists = [_gist(body) for body in sampled]
    errors = result.errors.total() - result.errors["refused"] + result.unsent
    return Measurement(
        answers_per_s=result.answers_per_s,
        answered=result.answered,
        failed=errors + result.answered - result.statuses[200],
        latency_ms={name: s * 1000 for name, s in result.latency_percentiles().items()},
        send_lag_ms={name: s * 1000 for name, s in percentiles(result.send_lags).items()},
        generator_load=cpu_s / max(result.seconds, 1e-9),
        participating=_share(gist.participate for gist in gists),
        degraded=_share(gist.reason in _DEGRADED for gist in gists),
        all_ms=(result.latency_array() * 1000).tolist() if job.tells_all else [],
    )


def _gist(body: bytes) -> _Gist:
    try:
        return msgspec.json.decode(body, type=_Gist)
    except msgspec.MsgspecError:  # counted as a failure by its status, or not of this platform
        return _Gist()


def _share(flags: Iterable[bool]) -> float:
    found = list(flags)
    return sum(found) / len(found) if found else 0.0


def measure_apart(job: Job, folder: Path, core: int = 1) -> Measurement:
    """Run the job in a process of its own on a core; raises CalledProcessError when it fails."""
    path = folder / "job.msgpack"
    path.write_bytes(msgspec.msgpack.encode(job))
    with on_core(core):
        done = subprocess.run(
            [sys.executable, "-m", "loadtest.generate", str(path)],
            check=True,
            stdout=subprocess.PIPE,
        )
    return msgspec.json.decode(done.stdout, type=Measurement)


def main() -> None:
    """Read the job, run it, print the measurement."""
    job = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=Job)
    if job.goes_first:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    gc.freeze()  # the job is not garbage: a collection over it would be a stall of our own making
    measurement = uvloop.run(measure(job))
    sys.stdout.write(msgspec.json.encode(measurement).decode())


if __name__ == "__main__":
    main()
