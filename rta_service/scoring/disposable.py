"""A process that is allowed to die: untrusted input is worked on here, and its end is an answer.

Native readers trust their input: a bad file ends the process by a signal, loops for ever or takes
all memory. So a child with limits and without our settings does the work. It lives for many calls,
since a start costs a second, and until it dies; the next call then starts another.

One JSON line in ({"function", "arguments", "cpu_s"}), one JSON line out ({"result"}, {"refused"}
or {"failed"}). Run as `python -m rta_service.scoring.disposable LIMITS`.
"""

import contextlib
import importlib
import math
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from threading import Lock
from types import TracebackType
from typing import IO, Any, BinaryIO, Final, Self

import msgspec

from rta_service.domain.errors import ModelRefused, RTAError

ALLOWED: Final = frozenset(
    {
        "rta_service.scoring.check:check_object",
    }
)
"""All that a child can be asked to do; each takes JSON values by name and gives a dict of them."""

MAX_REQUEST_BYTES: Final = 60_000
"""Fits a pipe's buffer, so that sending never waits; larger things are handed over as files."""

MAX_ANSWER_BYTES: Final = 16_000_000

_SHOWN_CHARACTERS: Final = 300
_PATIENCE_S: Final = 2.0
"""How long a child may take to end once its input is closed."""


class ProcessLimits(msgspec.Struct, frozen=True):
    """What a child may take."""

    memory_bytes: int = 4 << 30
    """Address space; a sane child with LightGBM loaded maps about 1 GB."""
    file_bytes: int = 16 << 20
    """Of any file it writes, what it says on standard error among them."""
    open_files: int = 128


class ProcessEnded(ModelRefused):
    """The child did not answer: killed by a signal, by us when time was up, or out of memory."""


class DisposableProcess:
    """A child that works on untrusted input; safe to share between threads, one call at a time."""

    def __init__(self, limits: ProcessLimits = ProcessLimits()) -> None:  # noqa: B008 - frozen
        self._limits = limits
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed by close()
        self.starts = 0
        """How many children there were."""

    def call(self, function: str, arguments: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Let the child call `module:name` of the allow-list with JSON values by name.

        Raises ProcessEnded, a ModelRefused, naming what ended the child or that `timeout_s` was
        over, ModelRefused with the words of any refusal in the child, and ValueError for what may
        not be asked.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End the child."""
        raise NotImplementedError
