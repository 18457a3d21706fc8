"""The upload of a model: from untrusted bytes to a version that a release may name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from rta_service.domain.clock import Clock
from rta_service.domain.errors import Fault
from rta_service.domain.release import ModelRef
from rta_service.releasing.shelf import Shelf
from rta_service.scoring.gates import Gate


class UploadFacts(msgspec.Struct, frozen=True):
    """Who uploads, when and why."""

    by: str
    at_ms: int
    name: str = ""
    """The model's name as the request's path says it; empty where the manifest decides."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class UploadRules:
    """What an upload is held to."""

    trusted: Mapping[str, bytes] = field(default_factory=dict)
    """Key ids and their Ed25519 public keys."""
    allow_unsigned: bool = False
    max_bytes: int = 300_000_000
    run_dir: Path | None = None
    """Where the workers keep their samples of recent traffic."""


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of an upload; kept for ever, whether accepted or refused."""

    upload_id: str
    name: str
    version: str
    by: str
    at_ms: int
    why: str
    accepted: bool
    reason: str
    """Why it was refused, in one sentence; of an accepted one, empty or `known`."""
    seconds: float
    gates: tuple[Gate, ...]
    """All of them, in order."""
    ref: ModelRef | None = None
    faults: tuple[Fault, ...] = ()
    """What the structural validator found."""
    schema: int = 1


def accept_upload(
    shelf: Shelf,
    source: Path,
    facts: UploadFacts,
    rules: UploadRules,
    step: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Judge a bundle (a tar or a folder) and stage it if all gates pass; nothing decides yet.

    Raises only for trouble of our own (disk, store): what is wrong with an upload is its verdict.
    """
    raise NotImplementedError


class Received:
    """An upload on its way in: hashed, bounded, spooled to our disk. Use it as a context manager."""

    def write(self, chunk: bytes) -> None:
        """Take the next bytes; raises InvalidInput beyond the limit."""
        raise NotImplementedError

    def close(self) -> None:
        """Delete the spooled file."""
        raise NotImplementedError


class Uploads:
    """What the control port may do with uploads."""

    def __init__(
        self, shelf: Callable[[], Shelf], rules: UploadRules, clock: Clock, folder: Path
    ) -> None:
        self._shelf = shelf
        self._rules = rules
        self._clock = clock
        self._folder = folder

    def receive(self) -> Received:
        """Begin to take an upload."""
        raise NotImplementedError

    def accept(self, received: Received, name: str, who: str, why: str) -> Verdict:
        """Judge what was received as a version of `name`; takes seconds, so call it in a thread."""
        raise NotImplementedError

    def verdicts(self, name: str, version: str) -> list[Verdict]:
        """Give all verdicts on a version, the newest first."""
        raise NotImplementedError
