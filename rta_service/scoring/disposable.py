"""A process that is allowed to die: untrusted input is worked on here, and its end is an answer.

Native readers trust their input: a bad file ends the process by a signal, loops for ever or takes
all memory. So a child with limits and without our settings does the work. It lives for many calls,
since a start costs a second, and until it dies; the next call then starts another.

`disposable_child.py` is the child's side.
"""

import contextlib
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from threading import Lock
from types import TracebackType
from typing import IO, Any, Final, Self

import msgspec

from rta_service.domain.errors import ModelRefused
from rta_service.scoring.disposable_child import (
    ALLOWED,
    Answer,
    ProcessLimits,
    Request,
)

_CHILD: Final = "rta_service.scoring.disposable_child"

MAX_REQUEST_BYTES: Final = 60_000
"""Fits a pipe's buffer, so that sending never waits; larger things are handed over as files."""

MAX_ANSWER_BYTES: Final = 16_000_000

_CHUNK_BYTES: Final = 1 << 16
_TAIL_BYTES: Final = 4_096
_SHOWN_CHARACTERS: Final = 300
_PATIENCE_S: Final = 2.0
"""How long a child may take to end once its input is closed."""


class ProcessEnded(ModelRefused):
    """The child did not answer: a signal, an error of its own, or our clock ended it."""


class DisposableProcess:
    """A child that works on untrusted input; safe to share between threads, one call at a time."""

    def __init__(self, limits: ProcessLimits | None = None) -> None:
        self._limits = limits or ProcessLimits()
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed by `close`
        self.starts = 0
        """How many children there were."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def call(self, function: str, arguments: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Let the child call `module:name` of the allow-list with JSON values by name.

        A start of the child is part of the time. Raises ProcessEnded, a ModelRefused, naming the
        signal, the time or the error that ended the child; ModelRefused with the words of a
        refusal in it; ValueError for what may not be asked.
        """
        if function not in ALLOWED:
            raise ValueError(f"{function} is not on the list of what a child may do")
        request = Request(function, dict(arguments), math.ceil(timeout_s) + 1)
        line = msgspec.json.encode(request) + b"\n"
        if len(line) > MAX_REQUEST_BYTES:
            raise ValueError(f"{len(line)} bytes to ask {function}: hand it a file")
        with self._lock:
            try:
                answer = self._exchange(line, timeout_s)
            except BaseException:
                self._end(patience_s=0.0)
                raise
        if answer.refused:
            raise ModelRefused(answer.refused)
        return answer.result

    def close(self) -> None:
        """End the child, and let no other begin."""
        with self._lock:
            self._end(_PATIENCE_S)
            self._errors.close()

    def _exchange(self, line: bytes, timeout_s: float) -> Answer:
        end_s = time.monotonic() + timeout_s
        child = self._living()
        self._errors.truncate(0)
        stdin, stdout = _pipes(child)
        try:
            stdin.write(line)
            stdin.flush()
            return msgspec.json.decode(_read_line(stdout, end_s), type=Answer)
        except TimeoutError as error:
            raise ProcessEnded(f"still busy after {timeout_s:.3g} s, and killed") from error
        except (EOFError, BrokenPipeError) as error:
            raise ProcessEnded(self._last_words(child)) from error
        except msgspec.MsgspecError as error:
            raise ProcessEnded(f"the process that worked on it gave no answer ({error})") from error

    def _living(self) -> subprocess.Popen[bytes]:
        """Give the child, and start one unless it lives."""
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._end(patience_s=0.0)
        command = [sys.executable, "-m", _CHILD, msgspec.json.encode(self._limits).decode()]
        self._child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
            start_new_session=True,  # a Ctrl-C is for us; we end the child
        )
        self.starts += 1
        return self._child

    def _last_words(self, child: subprocess.Popen[bytes]) -> str:
        """Say how a child ended that closed its output, and the last line that it wrote."""
        try:
            code = child.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return "the process that worked on it closed its output, and was killed"
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(size - _TAIL_BYTES, 0))
        lines = self._errors.read().decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        said = "".join(filter(str.isprintable, last))[:_SHOWN_CHARACTERS]
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return f"the process that worked on it {how}" + (f" ({said})" if said else "")

    def _end(self, patience_s: float) -> None:
        """Close the child's input and let it end by itself, or else kill it."""
        child, self._child = self._child, None
        if child is None:
            return
        stdin, stdout = _pipes(child)
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        try:
            child.wait(patience_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        stdout.close()


def _pipes(child: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if child.stdin is None or child.stdout is None:
        raise ValueError("a child without pipes")
    return child.stdin, child.stdout


def _read_line(stdout: IO[bytes], end_s: float) -> bytes:
    """Read one line until `end_s` of the monotonic clock.

    Raises TimeoutError, and EOFError for an end without a line or for a line that never ends.
    """
    line = bytearray()
    with selectors.DefaultSelector() as waiting:
        waiting.register(stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            left_s = end_s - time.monotonic()
            if left_s <= 0 or not waiting.select(left_s):
                raise TimeoutError
            chunk = os.read(stdout.fileno(), _CHUNK_BYTES)
            line += chunk
            if not chunk or len(line) > MAX_ANSWER_BYTES:
                raise EOFError
    return bytes(line)


def _environment() -> dict[str, str]:
    """Ours without the service's settings and secrets, which untrusted input must not reach.

    Native libraries are held to one thread: their stacks count against the limit.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RTA_")}
    return {**ours, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONFAULTHANDLER": ""}
