"""A child's side of supervision: say that it is ready, and end when the supervisor is gone.

Both ways are inherited pipes, named by environment variables: nothing to clean up, no port, and
the kernel closes them whatever way a process ends.
"""

import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

READY_FD: Final = "RTA_READY_FD"
PARENT_FD: Final = "RTA_PARENT_FD"


def tell_ready(environ: Mapping[str, str]) -> None:
    """Tell the supervisor that this process serves; without a supervisor, do nothing."""
    fd = environ.get(READY_FD)
    if fd is None:
        return
    with suppress(OSError):  # told before, or the supervisor stopped waiting: nobody listens
        os.write(int(fd), b"1")
        os.close(int(fd))


def watch_parent(environ: Mapping[str, str], grace_s: float = 10.0) -> threading.Thread | None:
    """End this process soon after its supervisor is gone, however that died.

    The supervisor never writes to the pipe, so a read returns only when the last write end is
    closed by the supervisor's death. Then this process gets SIGTERM, as if from the supervisor,
    and if it is still there after `grace_s`, ends hard.
    """
    fd = environ.get(PARENT_FD)
    if fd is None:
        return None
    watcher = threading.Thread(
        target=_await_end, args=(int(fd), grace_s), name="watch-parent", daemon=True
    )
    watcher.start()
    return watcher


def _await_end(fd: int, grace_s: float) -> None:
    os.read(fd, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    os._exit(1)
