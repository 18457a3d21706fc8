"""Writes the same model into folder after folder, killed one step later in each.

Run as a program: `killed_writer.py FOLDER`, where FOLDER holds bundle/ (a model to publish). A step
is a call that may change or sync a file: each writer is a fork that kills itself before one.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from rta_service.scoring.forest_text import parse_forest
from rta_service.scoring.manifest import MODEL, read_manifest
from rta_service.stores.model_folder import EntryFacts, put_model

STEPS = {
    *("open", "mkdir", "rename", "replace", "unlink", "rmdir", "chmod", "fchmod", "flock"),
    *("sendfile", "write", "flush", "fsync", "close", "__exit__"),
}


def killer(last: int) -> Callable[[FrameType, str, Any], None]:
    """Give a profiler that kills this process before its step number `last`."""
    seen = 0

    def count(_frame: FrameType, event: str, called: Any) -> None:
        nonlocal seen
        if event == "c_call" and called.__name__ in STEPS:
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)

    return count


def write_and_die(write: Callable[[Path], object], folder: Path, last: int) -> bool:
    """Write in a fork that dies at a step; says whether it lived to the end."""
    pid = os.fork()
    if pid == 0:
        sys.setprofile(killer(last))
        write(folder)
        sys.setprofile(None)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status):
        sys.exit(f"the writer failed at step {last}")
    return not os.WIFSIGNALED(status)


def main(root: Path) -> None:
    bundle = root / "bundle"
    manifest = read_manifest(bundle)
    forest = parse_forest((bundle / MODEL).read_bytes(), MODEL)
    facts = EntryFacts(manifest.created_at_ms, "local", "0" * 64)
    files = {path.name: path for path in bundle.iterdir()}

    def write(folder: Path) -> None:
        put_model(folder, manifest, forest, facts, files)

    write(root / "warm")  # what is imported late is imported now
    last = 1
    while not write_and_die(write, root / f"killed-{last:03}", last):
        last += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
