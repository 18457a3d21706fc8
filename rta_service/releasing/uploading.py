"""The upload of a model: from untrusted bytes to a version that a release may name.

`accept_upload` is the only way in. Whatever is wrong with an upload is a refused verdict, which is
kept; nothing else of it is. An accepted upload decides nothing yet: it is staged.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Final, Self

from rta_service.domain.audit import AuditEntry
from rta_service.domain.clock import Clock
from rta_service.domain.errors import (
    Fault,
    InvalidInput,
    ModelRefused,
    ModelUnsound,
    StoreUnavailable,
)
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.upload_stages import (
    STAGES,
    Stage,
    Trial,
    UploadFacts,
    UploadRules,
    evaluation_names,
)
from rta_service.releasing.verdicts import (
    UNREADABLE,
    VERDICTS,
    Verdict,
    is_plain,
    read_verdicts,
    write_verdict,
)
from rta_service.scoring.bundle import SIGNATURE, copy_folder
from rta_service.scoring.disposable import DisposableProcess
from rta_service.scoring.gates import Gate, failed
from rta_service.scoring.manifest import MANIFEST
from rta_service.scoring.signature import sign, write_signature
from rta_service.stores.whole_files import UNFINISHED, make_folder

__all__ = [
    "Received",
    "UploadFacts",
    "UploadRules",
    "Uploads",
    "Verdict",
    "accept_signed",
    "accept_upload",
]

UPLOADS: Final = "uploads"
KNOWN: Final = "known"

_TAR_OVERHEAD: Final = 64_000
"""Headers and padding of seven members, and the ten kilobytes to which tools round up."""
_SWEPT_AFTER_S: Final = 3_600.0


def _nothing(_stage: str) -> None:
    """Show no progress."""


def accept_upload(
    shelf: Shelf,
    source: Path,
    facts: UploadFacts,
    rules: UploadRules,
    step: Callable[[str], None] = _nothing,
) -> Verdict:
    """Judge a bundle (a tar or a folder) and stage it if all gates pass; nothing decides yet.

    `step` hears each stage's name before it begins. Raises only for trouble of our own
    (StoreUnavailable): what is wrong with an upload is its verdict.
    """
    begun_s = time.monotonic()
    with (
        _own_folder(shelf.models_folder, facts.at_ms) as folder,
        nullcontext(rules.shared) if rules.shared else DisposableProcess(rules.process) as process,
    ):
        trial = Trial(shelf, source, facts, rules, folder, process)
        trial.upload_id = _upload_id(source, facts, folder)
        gates, faults = _judge(trial, step)
        step("verdict")
        verdict = _verdict(trial, gates, faults, round(time.monotonic() - begun_s, 3))
        with _trouble_named(shelf.models_folder):
            write_verdict(shelf.models_folder, verdict)
    if not verdict.accepted:
        with suppress(StoreUnavailable):  # its verdict is kept: a refusal needs no store
            shelf.releases.note(_entry(verdict))
    elif trial.known is None:
        shelf.releases.note(_entry(verdict))
    return verdict


def accept_signed(
    shelf: Shelf,
    folder: Path,
    facts: UploadFacts,
    held_to: tuple[UploadRules, bytes],
    step: Callable[[str], None] = _nothing,
) -> Verdict:
    """Judge a folder's bundle, signed by the key beside the rules unless it is signed already.

    The folder itself is not written to. Raises InvalidInput for one that is no bundle.
    """
    rules, key = held_to
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / folder.name
        copy.mkdir()
        bundle = copy_folder(folder, copy, rules.limits)
        if not bundle.has(SIGNATURE):
            write_signature(copy / SIGNATURE, sign(bundle.read(MANIFEST), key))
        return accept_upload(shelf, copy, facts, rules, step)


def _entry(verdict: Verdict) -> AuditEntry:
    """Say in the audit log that a version exists from now on, or who tried and what refused it."""
    refused = next((g.name for g in verdict.gates if g.outcome == "failed"), "")
    signed = f"signed by {verdict.signed_by}" if verdict.signed_by else "unsigned"
    became = f" refused by {refused}" if refused else f", {signed}"
    what = f"{verdict.name} {verdict.version}{became}, verdict {verdict.upload_id}"
    return AuditEntry(verdict.at_ms, verdict.by, "upload", what, verdict.why)


def _upload_id(source: Path, facts: UploadFacts, folder: Path) -> str:
    """Name an upload by its time and a hash of what makes it this one."""
    seed = f"{facts.at_ms} {facts.by} {source.name} {folder.name}"
    return f"u{facts.at_ms}-{hashlib.sha256(seed.encode()).hexdigest()[:8]}"


def _judge(trial: Trial, step: Callable[[str], None]) -> tuple[list[Gate], tuple[Fault, ...]]:
    """Go through the stages up to the first that refuses."""
    gates: list[Gate] = []
    faults: tuple[Fault, ...] = ()
    for stage in STAGES:
        names = stage.gates or evaluation_names(trial.manifest)
        if trial.known is not None:
            gates += [gate for gate in trial.known.gates if gate.name in names]
        elif any(gate.outcome == "failed" for gate in gates):
            gates += [Gate(name, "not_reached") for name in names]
        else:
            step(stage.name)
            found, faults = _run(stage, trial, names)
            gates += found
    return gates, faults


def _run(
    stage: Stage, trial: Trial, names: tuple[str, ...]
) -> tuple[list[Gate], tuple[Fault, ...]]:
    """Run one stage; what it raises about the upload is its first gate's failure."""
    try:
        with _trouble_named(trial.shelf.models_folder):
            return stage.run(trial), ()
    except (InvalidInput, ModelRefused) as error:
        said = str(error)
        places = (trial.folder, trial.source.parent, trial.shelf.models_folder)
        for folder in (p for place in places for p in (place, place.resolve())):
            said = said.replace(f"{folder}{os.sep}", "")
        rest = [Gate(name, "not_reached") for name in names[1:]]
        faults = error.faults if isinstance(error, ModelUnsound) else ()
        return [failed(names[0], said), *rest], faults


def _verdict(trial: Trial, gates: list[Gate], faults: tuple[Fault, ...], seconds: float) -> Verdict:
    reason = next((_said(gate) for gate in gates if gate.outcome == "failed"), "")
    accepted = not reason
    if accepted and (trial.known is not None or not trial.stored):
        reason = KNOWN
    manifest = trial.manifest
    return Verdict(
        upload_id=trial.upload_id,
        name=_word(manifest.name if manifest else trial.facts.name),
        version=_word(manifest.version if manifest else ""),
        by=trial.facts.by,
        at_ms=trial.facts.at_ms,
        why=trial.facts.why,
        accepted=accepted,
        reason=reason,
        seconds=seconds,
        gates=tuple(gates),
        ref=trial.ref if accepted else None,
        signed_by=trial.signed_by,
        faults=faults,
    )


def _word(word: str) -> str:
    return word if is_plain(word) else UNREADABLE


def _said(gate: Gate) -> str:
    """Say in a sentence what a gate refused."""
    if not gate.limit:
        return f"{gate.name}: {gate.note}"
    figure = "no number" if gate.figure is None else f"{gate.figure:.6g}"
    return f"{gate.name}: {figure}, must be {gate.limit} ({gate.note})"


@contextmanager
def _own_folder(models_folder: Path, now_ms: int) -> Iterator[Path]:
    """Give a folder of its own to an upload; what killed ones left an hour ago is removed."""
    with _trouble_named(models_folder):
        uploads = models_folder / UPLOADS
        make_folder(uploads)
        unfinished = models_folder.glob(f"{VERDICTS}/*/{UNFINISHED}*")
        for left in (*uploads.iterdir(), *unfinished):
            with suppress(FileNotFoundError):  # another upload ended, or swept, meanwhile
                if left.stat().st_mtime < now_ms / 1000 - _SWEPT_AFTER_S:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
        folder = Path(tempfile.mkdtemp(prefix="trial-", dir=uploads))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _trouble_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise StoreUnavailable(f"{place}: {error.strerror}") from error


class Received:
    """An upload on its way in: bounded, and spooled to our disk. Use it as a context manager."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        with _trouble_named(folder):
            make_folder(folder)
            descriptor, name = tempfile.mkstemp(prefix="received-", suffix=".tar", dir=folder)
        self.path = Path(name)
        self.size = 0
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._file = os.fdopen(descriptor, "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def sha256(self) -> str:
        """The hash of what came so far: two requests with the same one are the same upload."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Take the next bytes; raises InvalidInput beyond the limit."""
        self.size += len(chunk)
        if self.size > self._max_bytes:
            raise InvalidInput(f"is larger than {self._max_bytes:,} bytes", "upload")
        self._hash.update(chunk)
        with _trouble_named(self.path):
            self._file.write(chunk)

    def finish(self) -> Path:
        """Give the file, all bytes in it."""
        with _trouble_named(self.path):
            self._file.flush()
        return self.path

    def close(self) -> None:
        """Delete the spooled file; once is enough, twice does no harm."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class Uploads:
    """What the control port may do with uploads; safe to share between threads."""

    def __init__(
        self,
        shelf: Callable[[], Shelf],
        rules: Callable[[], UploadRules],
        clock: Clock,
        folder: Path,
    ) -> None:
        """Keep verdicts and what is being received in the models folder; rules count as they stand."""
        self._shelf = shelf
        self._rules = rules
        self._clock = clock
        self._folder = folder
        self._one = Lock()

    @property
    def max_bytes(self) -> int:
        """The most bytes that an upload may have as it comes."""
        return self._rules().limits.max_bytes + _TAR_OVERHEAD

    def receive(self) -> Received:
        """Begin to take an upload."""
        return Received(self._folder / UPLOADS, self.max_bytes)

    def accept(self, received: Received, name: str, who: str, why: str) -> Verdict:
        """Judge what was received as a version of `name`; takes seconds, so call it in a thread.

        One at a time: each takes a process of a gigabyte. Raises InvalidInput for a name that is
        none, StoreUnavailable for trouble of our own.
        """
        if not is_plain(name):
            raise InvalidInput(f"{name[:100]!r} is not a model's name", "name")
        facts = UploadFacts(by=who, at_ms=self._clock.now_ms(), name=name, why=why)
        with self._one:
            return accept_upload(self._shelf(), received.finish(), facts, self._rules())

    def verdicts(self, name: str, version: str) -> list[Verdict]:
        """Give all verdicts on a version, the newest first."""
        return read_verdicts(self._folder, name, version)
