"""Hostile uploads, to try a model registry with: a sound bundle with one thing wrong.

In its tar, in what the files say, or in a model's text. What the files say is hashed and signed
anew afterwards, as by somebody who holds a trusted key: so that it is not the signature that
refuses, but what comes behind it. Same files and seed, same uploads.
"""

import gzip
import hashlib
import io
import itertools
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from rta_service.scoring.bundle import EVALUATION, GOLDEN, SIGNATURE
from rta_service.scoring.manifest import MANIFEST, MODEL
from rta_service.scoring.signature import sign
from rta_service.simulation.hostile_models import mutants

Files = dict[str, bytes]

_BLOCK: Final = 512
_SKIPPED: Final = 8
"""Of up to so many mutants of the text one is taken, so that few uploads have all kinds too."""
_HASHED: Final = {MODEL: "sha256", GOLDEN: "golden_sha256", EVALUATION: "evaluation_sha256"}

_NAMES: Final = (
    *("../model.txt", "/model.txt", "./model.txt", "a/model.txt", "model.txt/", "..", ".", ""),
    *("MODEL.TXT", "model.txt ", "model.pkl", ".lock", "objects", "m\u00f6del.txt", "model.txt\n"),
    *("/" + "a" * 98, "a" * 120, "../" * 30 + "etc/passwd", "C:\\model.txt", "-rf", "*"),
)
_TYPES: Final = (
    *(tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE),
    *(tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME),
    *(tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"Z", b"\xff"),
)
_TARGETS: Final = ("", "model.txt", "/etc/passwd", "../../secrets/model_key")
_SIZES: Final = (0, 1, 511, 64_000_001, 300_000_000, 8**11 - 1, 8**11, 2**62, -1, -512)
_FIELD_VALUES: Final[tuple[object, ...]] = (
    *(None, -1, 2**63 - 1, 2**63, 1e308, "", "../../etc", "x" * 5_000, [], {}, True, [[[[]]]]),
    *({"x": [1e308, 0.0], "y": [0.0, 1.0]}, {"x": [0.0], "y": [1.0]}, [1] * 1_000),
)


@dataclass(frozen=True, slots=True)
class HostileUpload:
    """One upload as it would be sent."""

    kind: str
    version: str
    """What its manifest said before any change to it; every upload has its own."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Forger:
    """Makes changed copies of a sound bundle that pass for the holder's of a trusted key."""

    files: Mapping[str, bytes]
    key: bytes

    def forge(self, version: str, changed: Mapping[str, bytes] | None = None) -> Files:
        """Give the files under another version, some of them changed, hashed and signed anew."""
        files = {**self.files, **(changed or {})}
        manifest = msgspec.json.decode(files[MANIFEST])
        hashes = {field: _sha256(files[name]) for name, field in _HASHED.items() if name in files}
        files[MANIFEST] = msgspec.json.encode({**manifest, **hashes, "version": version})
        return self.signed(files)

    def signed(self, files: Files) -> Files:
        """Give the files with a signature of their manifest as it stands."""
        return {**files, SIGNATURE: msgspec.json.encode(sign(files[MANIFEST], self.key))}


def as_tar(files: Mapping[str, bytes]) -> bytes:
    """Pack files as a bundle is sent."""
    return _joined([_member(name, data) for name, data in files.items()])


def hostile_uploads(
    files: Mapping[str, bytes], key: bytes, seed: int, count: int
) -> Iterator[HostileUpload]:
    """Make uploads from a sound bundle's files: by turns a hostile text, other files, and tars."""
    chance = np.random.default_rng(seed)
    forger = Forger(files, key)
    texts = mutants(files[MODEL], seed, _SKIPPED * count)
    for number in range(count):
        version = f"hostile-{seed}-{number}"
        if number % 2 == 0:
            mutant = next(itertools.islice(texts, _below(chance, _SKIPPED), None))
            kind, data = (
                f"text: {mutant.kind}",
                as_tar(forger.forge(version, {MODEL: mutant.data})),
            )
        elif number % 4 == 1:
            change = _pick(chance, tuple(_FILES))
            kind, data = f"files: {change}", as_tar(_FILES[change](forger, version, chance))
        else:
            change = _pick(chance, tuple(_TARS))
            kind, data = f"tar: {change}", _TARS[change](forger.forge(version), chance)
        yield HostileUpload(kind, version, data)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _below(chance: np.random.Generator, end: int) -> int:
    return int(chance.integers(0, max(end, 1)))


def _pick(chance: np.random.Generator, among: tuple[str, ...]) -> str:
    return among[_below(chance, len(among))]


def _flipped(data: bytes, chance: np.random.Generator) -> bytes:
    changed = bytearray(data)
    changed[_below(chance, len(data))] ^= 1 << _below(chance, 8)
    return bytes(changed)


# What the files say.


def _golden(forger: Forger, version: str, chance: np.random.Generator) -> Files:
    return forger.forge(version, {GOLDEN: _flipped(forger.files[GOLDEN], chance)})


def _golden_cut(forger: Forger, version: str, chance: np.random.Generator) -> Files:
    golden = forger.files[GOLDEN]
    return forger.forge(version, {GOLDEN: golden[: _below(chance, len(golden))]})


def _golden_deep(forger: Forger, version: str, chance: np.random.Generator) -> Files:
    deep = (b"[", b'{"rows":', b'{"rows":[[1e999999999,', b'{"raw":[')[_below(chance, 4)]
    return forger.forge(version, {GOLDEN: deep * 50_000})


def _evaluation(forger: Forger, version: str, chance: np.random.Generator) -> Files:
    """Flip a bit; half of the time in the last kilobyte, where Parquet says what is where."""
    rows = forger.files[EVALUATION]
    at = 0 if _below(chance, 2) else max(len(rows) - 1_024, 0)
    return forger.forge(version, {EVALUATION: rows[:at] + _flipped(rows[at:], chance)})


def _evaluation_cut(forger: Forger, version: str, chance: np.random.Generator) -> Files:
    rows = forger.files[EVALUATION]
    return forger.forge(version, {EVALUATION: rows[: _below(chance, len(rows))]})


def _manifest(forger: Forger, version: str, chance: np.random.Generator) -> Files:
    files = forger.forge(version)
    return forger.signed({**files, MANIFEST: _flipped(files[MANIFEST], chance)})


def _manifest_field(forger: Forger, version: str, chance: np.random.Generator) -> Files:
    files = forger.forge(version)
    manifest = msgspec.json.decode(files[MANIFEST])
    field = _pick(chance, (*manifest, "another"))
    manifest[field] = _FIELD_VALUES[_below(chance, len(_FIELD_VALUES))]
    return forger.signed({**files, MANIFEST: msgspec.json.encode(manifest)})


def _unhashed(forger: Forger, version: str, chance: np.random.Generator) -> Files:
    files = forger.forge(version)
    name = _pick(chance, (*_HASHED, MANIFEST, SIGNATURE))
    return {**files, name: _flipped(files[name], chance)}


def _missing(forger: Forger, version: str, chance: np.random.Generator) -> Files:
    files = forger.forge(version)
    name = _pick(chance, (*_HASHED, MANIFEST, SIGNATURE))
    return {other: data for other, data in files.items() if other != name}


def _anothers_key(forger: Forger, version: str, chance: np.random.Generator) -> Files:
    return Forger(forger.files, chance.bytes(32)).forge(version)


def _anothers_signature(forger: Forger, version: str, _chance: np.random.Generator) -> Files:
    """Put the signature of another version beside a manifest."""
    return {**forger.forge(version), SIGNATURE: forger.forge(f"{version}-b")[SIGNATURE]}


_FILES: Final[dict[str, Callable[[Forger, str, np.random.Generator], Files]]] = {
    function.__name__.removeprefix("_"): function
    for function in (
        *(_golden, _golden_cut, _golden_deep, _evaluation, _evaluation_cut, _manifest),
        *(_manifest_field, _unhashed, _missing, _anothers_key, _anothers_signature),
    )
}


# How they are packed.


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    """Write a header as tar does; names and sizes that have no room get GNU's extensions."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, target
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _member(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + bytes(-len(data) % _BLOCK)


def _joined(members: list[bytes]) -> bytes:
    return b"".join(members) + bytes(2 * _BLOCK)


def _replaced(files: Files, chance: np.random.Generator, header: Callable[[str], bytes]) -> bytes:
    """Pack, one member's header made by somebody else."""
    odd = _pick(chance, tuple(files))
    members = []
    for name, data in files.items():
        head = header(name) if name == odd else _header(name, len(data))
        members.append(head + data + bytes(-len(data) % _BLOCK))
    return _joined(members)


def _name(files: Files, chance: np.random.Generator) -> bytes:
    other = _pick(chance, _NAMES)
    return _replaced(files, chance, lambda name: _header(other, len(files[name])))


def _more(files: Files, chance: np.random.Generator) -> bytes:
    """Add a member: one with another name, or one a second time."""
    name = _pick(chance, (*_NAMES, *files))
    return _joined([*(_member(n, d) for n, d in files.items()), _member(name, b"more")])


def _type(files: Files, chance: np.random.Generator) -> bytes:
    kind, target = _TYPES[_below(chance, len(_TYPES))], _pick(chance, _TARGETS)
    return _replaced(files, chance, lambda name: _header(name, len(files[name]), kind, target))


def _size(files: Files, chance: np.random.Generator) -> bytes:
    size = _SIZES[_below(chance, len(_SIZES))]
    return _replaced(files, chance, lambda name: _header(name, size))


def _header_bit(files: Files, chance: np.random.Generator) -> bytes:
    """Flip a bit of a header; half of the time its checksum is put right."""
    mend = bool(_below(chance, 2))

    def flipped(name: str) -> bytes:
        head = bytearray(_flipped(_header(name, len(files[name])), chance))
        if mend:
            head[148:156] = b" " * 8
            head[148:156] = b"%06o\0 " % sum(head)
        return bytes(head)

    return _replaced(files, chance, flipped)


def _cut(files: Files, chance: np.random.Generator) -> bytes:
    whole = as_tar(files)
    return whole[: _below(chance, len(whole))]


def _no_end(files: Files, chance: np.random.Generator) -> bytes:
    return as_tar(files)[: -_BLOCK * (1 + _below(chance, 2))]


def _junk(files: Files, chance: np.random.Generator) -> bytes:
    """Put junk behind the end, between the members, or in the place of all."""
    junk, whole = chance.bytes(1 + _below(chance, 2_000)), as_tar(files)
    first = len(_member(*next(iter(files.items()))))
    return (whole + junk, whole[:first] + junk + whole[first:], junk)[_below(chance, 3)]


def _padding(files: Files, _chance: np.random.Generator) -> bytes:
    whole = bytearray(as_tar(files))
    name, data = next(iter(files.items()))
    whole[len(_member(name, data)) - 1] ^= 1
    return bytes(whole)


def _empty(_files: Files, chance: np.random.Generator) -> bytes:
    return bytes((0, 1, _BLOCK, 2 * _BLOCK, 10_240)[_below(chance, 5)])


def _compressed(files: Files, _chance: np.random.Generator) -> bytes:
    return gzip.compress(as_tar(files), mtime=0)


def _pax(files: Files, _chance: np.random.Generator) -> bytes:
    """Say the size of each file in an extension record too."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(data), {"size": "1", "path": "../model.txt"}
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _shuffled(files: Files, chance: np.random.Generator) -> bytes:
    """Pack in another order, which no reader may mind."""
    order = chance.permutation(len(files))
    members = [_member(name, data) for name, data in files.items()]
    return _joined([members[place] for place in order])


_TARS: Final[dict[str, Callable[[Files, np.random.Generator], bytes]]] = {
    function.__name__.removeprefix("_"): function
    for function in (
        *(_name, _more, _type, _size, _header_bit, _cut, _no_end, _junk, _padding, _empty),
        *(_compressed, _pax, _shuffled),
    )
}
