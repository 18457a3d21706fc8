"""Secrets: given by the environment, or made once and kept in a file that only we can read."""

import os
import secrets
from pathlib import Path
from typing import Final

from rta_service.domain.errors import InvalidInput

MIN_CHARACTERS: Final = 16


def obtain(given: str | None, path: Path, place: str) -> bytes:
    """Give the secret that was given, or else the one in the file, made on first use.

    Raises InvalidInput, naming `place`, for one that is too short to hide anything.
    """
    if given is None:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_once(path, secrets.token_hex(24))
        place, given = str(path), path.read_text().strip()
    if len(given) < MIN_CHARACTERS:
        raise InvalidInput(f"a secret needs at least {MIN_CHARACTERS} characters", place)
    return given.encode()


def _write_once(path: Path, text: str) -> None:
    """Write so that of two first starts both read the same secret, and nobody half of one."""
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass  # the other start was first: its secret counts
    finally:
        temporary.unlink()
