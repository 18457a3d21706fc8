"""Verdicts on uploads: every one is kept for ever, of refusals too, with every gate's figure.

<models folder>/verdicts/<name>/<version>-<upload id>.json
"""

import re
from pathlib import Path
from typing import Any, Final

import msgspec

from rta_service.domain.errors import Fault
from rta_service.domain.release import ModelRef
from rta_service.scoring.gates import Gate
from rta_service.stores.whole_files import write_whole

VERDICTS: Final = "verdicts"
UNREADABLE: Final = "unreadable"
"""Stands for the name or version of an upload whose manifest could not be read."""

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of an upload."""

    upload_id: str
    name: str
    version: str
    by: str
    at_ms: int
    why: str
    accepted: bool
    reason: str
    """Why it was refused, in a sentence; of an accepted one empty, or `known` if it was there."""
    seconds: float
    gates: tuple[Gate, ...]
    """All of them, in order."""
    ref: ModelRef | None = None
    signed_by: str = ""
    """The name of the trusted key; empty for an unsigned upload."""
    faults: tuple[Fault, ...] = ()
    """What the structural validator found."""
    schema: int = 1

    def to_json(self) -> dict[str, Any]:
        """Give the verdict as people and other programs read it: faults with their fields' names."""
        faults = [fault._asdict() for fault in self.faults]
        return {**msgspec.to_builtins(self), "faults": faults}


def is_plain(word: str) -> bool:
    """Say whether a word can name a model or a version."""
    return _PLAIN_NAME.fullmatch(word) is not None


def write_verdict(folder: Path, verdict: Verdict) -> None:
    """Keep a verdict in the models folder; raises OSError when that can't be written."""
    data = msgspec.json.format(msgspec.json.encode(verdict))
    write_whole(_folder(folder, verdict.name) / f"{_file_word(verdict)}.json", data)


def read_verdicts(folder: Path, name: str, version: str) -> list[Verdict]:
    """Give all verdicts on a version, the newest first; what is no verdict any more is left out."""
    if not (is_plain(name) and is_plain(version)):
        return []
    found = []
    for path in _folder(folder, name).glob(f"{version}-u*.json"):
        try:
            verdict = msgspec.json.decode(path.read_bytes(), type=Verdict)
        except (msgspec.MsgspecError, UnicodeDecodeError, OSError):
            continue
        if verdict.version == version:
            found.append(verdict)
    return sorted(found, key=lambda v: (-v.at_ms, v.upload_id))


def _folder(folder: Path, name: str) -> Path:
    return folder / VERDICTS / (name if is_plain(name) else UNREADABLE)


def _file_word(verdict: Verdict) -> str:
    version = verdict.version if is_plain(verdict.version) else UNREADABLE
    return f"{version}-{verdict.upload_id}"
