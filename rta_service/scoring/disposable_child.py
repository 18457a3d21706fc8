"""What runs in a disposable process: a child with limits that does one allowed thing at a time.

Run as `python -m rta_service.scoring.disposable_child LIMITS`: one JSON line in (`Request`), one
JSON line out (`Answer`), until the input ends.
"""

import importlib
import math
import os
import resource
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final

import msgspec

from rta_service.domain.errors import RTAError

CHECK_OBJECT: Final = "rta_service.scoring.check:check_object"
SURROUNDINGS: Final = "rta_service.scoring.disposable_child:surroundings"

COMPARE_SCORES: Final = "rta_service.scoring.judging:compare_scores"
COMPARE_TRAFFIC: Final = "rta_service.scoring.judging:compare_traffic"
JUDGE_EVALUATION: Final = "rta_service.scoring.judging:judge_evaluation"

ALLOWED: Final = frozenset(
    {CHECK_OBJECT, SURROUNDINGS, COMPARE_SCORES, COMPARE_TRAFFIC, JUDGE_EVALUATION}
)
"""All that a child can be asked to do; each takes JSON values by name and gives a dict of them."""

_LIMITED: Final = ("RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_CPU")


class ProcessLimits(msgspec.Struct, frozen=True):
    """What a child may take."""

    memory_bytes: int = 4 << 30
    """Address space; a sane child with LightGBM loaded maps about 1 GB."""
    file_bytes: int = 16 << 20
    """Of any file it writes; what it says on standard error is one."""
    open_files: int = 128


class Request(msgspec.Struct, frozen=True):
    """One line to the child."""

    function: str
    arguments: dict[str, Any]
    cpu_s: int
    """Seconds of processor time this call may take; they outlive a parent that died."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line from the child."""

    result: dict[str, Any] = {}
    refused: str = ""


def surroundings() -> dict[str, Any]:
    """Say what a child is and may do: its id, its limits, the names in its environment."""
    limits = {name: resource.getrlimit(getattr(resource, name)) for name in _LIMITED}
    return {"pid": os.getpid(), "limits": limits, "environment": sorted(os.environ)}


def main(arguments: Sequence[str]) -> int:
    """Be the child: answer line after line until the input ends.

    An unforeseen error ends it, with its words on standard error: what is left of a process after
    one (no memory, say) is not worth keeping.
    """
    limits = msgspec.json.decode(arguments[0], type=ProcessLimits)
    _limit(limits)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what native code prints is no answer
    for line in sys.stdin.buffer:
        _answer(line, answers)
    return 0


def _answer(line: bytes, answers: BinaryIO) -> None:
    request = msgspec.json.decode(line, type=Request)
    _limit_cpu(request.cpu_s)
    try:
        answer = Answer(result=_allowed(request.function)(**request.arguments))
    except RTAError as error:
        answer = Answer(refused=str(error) or type(error).__name__)
    answers.write(msgspec.json.encode(answer) + b"\n")
    answers.flush()


def _allowed(function: str) -> Callable[..., dict[str, Any]]:
    if function not in ALLOWED:
        raise ValueError(f"{function} is not on the list of what a child may do")
    module, _, name = function.partition(":")
    found: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), name)
    return found


def _limit(limits: ProcessLimits) -> None:
    """Bound what a hostile input can take."""
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits.open_files, limits.open_files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_cpu(seconds: int) -> None:
    """Give this call its own processor time: the kernel counts that of all calls together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
