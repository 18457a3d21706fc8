"""Files and folders that are there whole or not at all, whenever their writer is killed."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

UNFINISHED: Final = ".writing-"
"""What names begin with until their content is whole; nobody reads them."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a read-only file beside its place, sync it, and rename it into its place."""
    make_folder(path.parent)
    descriptor, name = tempfile.mkstemp(prefix=UNFINISHED, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o444)  # no secret, and other users' workers read it
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def copy_unfinished(parent: Path, files: Mapping[str, Path]) -> Path:
    """Copy files under their new names into an unfinished folder, which `finish` puts in place."""
    make_folder(parent)
    temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))
    temporary.chmod(0o755)
    for name, source in files.items():
        shutil.copyfile(source, temporary / name)
        sync(temporary / name)
    sync(temporary)
    return temporary


def finish(temporary: Path, target: Path) -> None:
    """Put a folder into its place; what is there is replaced, as of a writer that was killed."""
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    sync(target.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it so that they survive a loss of power."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
