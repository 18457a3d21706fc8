"""A bundle: the few plain files that make one uploaded model, as a folder or as a plain tar.

The reader of tars is our own and takes the oldest, simplest form only (ustar headers of regular
files): no links, no folders, no extension records, and a member's name is compared with the list of
names, never used as a path.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

from rta_service.domain.errors import InvalidInput
from rta_service.scoring.manifest import CARD, MANIFEST, MODEL

GOLDEN: Final = "golden.json"
EVALUATION: Final = "evaluation.parquet"
CARD_PAGE: Final = "card.html"
SIGNATURE: Final = "signature.json"

MAX_BYTES: Final[Mapping[str, int]] = MappingProxyType(
    {
        MODEL: 64_000_000,
        MANIFEST: 1_000_000,
        GOLDEN: 32_000_000,
        EVALUATION: 256_000_000,
        CARD: 1_000_000,
        CARD_PAGE: 16_000_000,
        SIGNATURE: 4_096,
    }
)
"""The names a bundle may hold, and how large each may be."""

REQUIRED: Final = (MODEL, MANIFEST, GOLDEN)

_BLOCK: Final = 512
_CHUNK: Final = 1 << 20
_REGULAR: Final = (b"0", b"\0")
_MAGICS: Final = (b"ustar\x0000", b"ustar  \0")
"""POSIX's, and what GNU tar writes for a plain file."""
_ODD_TYPES: Final = {
    b"1": "a link",
    b"2": "a symbolic link",
    b"5": "a folder (pack the files themselves: tar -c -C DIR model.txt manifest.json ...)",
    b"x": "a pax record (pack with: tar --format=ustar)",
    b"g": "a pax record (pack with: tar --format=ustar)",
    b"L": "a GNU long name",
    b"S": "a sparse file",
}


@dataclass(frozen=True, slots=True)
class Bundle:
    """The files of one upload in a folder of ours."""

    folder: Path
    sizes: Mapping[str, int]

    def has(self, name: str) -> bool:
        """Say whether the upload has this file."""
        return name in self.sizes

    def read(self, name: str) -> bytes:
        """Read one of its files whole."""
        return (self.folder / name).read_bytes()


@dataclass(frozen=True, slots=True)
class BundleLimits:
    """What one bundle may be; a setting can lower the whole, never raise a file's bound."""

    max_bytes: int = 300_000_000
    """Of all its files together."""
    files: Mapping[str, int] = field(default_factory=lambda: MAX_BYTES)


def pack(folder: Path, out: BinaryIO) -> int:
    """Write a bundle's folder as a plain tar; gives the number of bytes. Equal in, equal out."""
    bundle = open_folder(folder)
    written = 0
    for name, size in bundle.sizes.items():
        written += out.write(_header(name, size))
        with (folder / name).open("rb") as file:
            left = size
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= out.write(chunk)
        if left:
            raise InvalidInput("became shorter while it was packed", str(folder / name))
        written += size + out.write(bytes(-size % _BLOCK))
    return written + out.write(bytes(2 * _BLOCK))


def _header(name: str, size: int) -> bytes:
    block = bytearray(_BLOCK)
    block[: len(name)] = name.encode("ascii")
    block[100:108] = b"0000644\0"
    block[108:116] = block[116:124] = b"0000000\0"
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % 0
    block[156:157] = b"0"
    block[257:265] = _MAGICS[0]
    block[148:156] = b"%06o\0 " % _checksum(block)
    return bytes(block)


def _checksum(block: bytes | bytearray) -> int:
    """Add a header's bytes up, its checksum field counting as blanks."""
    return sum(block[:148]) + 8 * 0x20 + sum(block[156:])


def open_folder(folder: Path, limits: BundleLimits = BundleLimits()) -> Bundle:
    """Take a folder's files as a bundle; other files in it are no part of it.

    Raises InvalidInput for a missing one, one that is no plain file, or one that is too large.
    """
    sizes: dict[str, int] = {}
    for name in limits.files:
        try:
            found = (folder / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISREG(found.st_mode):
            raise InvalidInput("is not a plain file", str(folder / name))
        _check_size(name, found.st_size, limits)
        sizes[name] = found.st_size
    _check_whole(sizes, limits, str(folder))
    return Bundle(folder, sizes)


def copy_folder(source: Path, into: Path, limits: BundleLimits) -> Bundle:
    """Copy a folder's bundle to where nobody changes it while it is judged."""
    for name, size in open_folder(source, limits).sizes.items():
        with (source / name).open("rb") as file:
            _copy(file, into / name, size, str(source / name))
    return open_folder(into, limits)


def unpack(tar: Path, into: Path, limits: BundleLimits = BundleLimits()) -> Bundle:
    """Unpack a plain tar into files of our own naming in an existing folder.

    Raises InvalidInput for anything but plain files with the allowed names, each at most once,
    each within its bound, the required ones all there.
    """
    sizes: dict[str, int] = {}
    with tar.open("rb") as file:
        for name, size in _members(file, tar.name):
            if name in sizes:
                raise InvalidInput(f"holds {name} twice", tar.name)
            if name not in limits.files:
                allowed = ", ".join(limits.files)
                raise InvalidInput(f"holds {name!r}; a bundle's files are {allowed}", tar.name)
            _check_size(name, size, limits)
            sizes[name] = size
            if sum(sizes.values()) > limits.max_bytes:
                break
            _copy(file, into / name, size, tar.name)
            _expect_zeros(file.read(-size % _BLOCK), -size % _BLOCK, tar.name)
    _check_whole(sizes, limits, tar.name)
    return Bundle(into, sizes)


def _members(file: BinaryIO, place: str) -> Iterator[tuple[str, int]]:
    """Give name and size of each member; its content must be read before the next is asked for."""
    while (block := file.read(_BLOCK)) != bytes(_BLOCK):
        if len(block) < _BLOCK:
            raise InvalidInput("ends without the two empty blocks that end a tar", place)
        yield _name_of(block, place), _size_of(block, place)
    rest = file.read(_BLOCK)
    _expect_zeros(rest, _BLOCK, place)
    while rest := file.read(_CHUNK):
        _expect_zeros(rest, len(rest), place)


def _name_of(block: bytes, place: str) -> str:
    """Check a header, and give the member's name; raises InvalidInput."""
    if block[257:265] not in _MAGICS or _octal(block[148:156]) != _checksum(block):
        raise InvalidInput("is not a plain tar: a header's magic or checksum is wrong", place)
    kind = block[156:157]
    if kind not in _REGULAR:
        said = _ODD_TYPES.get(kind, f"a member of type {kind!r}")
        raise InvalidInput(f"holds {said}; only plain files belong into a bundle", place)
    if any(block[157:257]) or any(block[345:500]):
        raise InvalidInput("a member has a link's target or a path's prefix", place)
    raw, _, rest = block[:100].partition(b"\0")
    if any(rest) or not raw.isascii():
        raise InvalidInput("a member's name is not plain", place)
    return raw.decode("ascii")


def _size_of(block: bytes, place: str) -> int:
    size = _octal(block[124:136])
    if size is None:
        raise InvalidInput("a member's size is not an octal number", place)
    return size


def _octal(text: bytes) -> int | None:
    """Read a number field: octal digits, then blanks or NULs; None for anything else."""
    digits = text.rstrip(b" \0").lstrip(b" ")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else None


def _copy(file: BinaryIO, target: Path, size: int, place: str) -> None:
    """Copy exactly so many bytes to a new file of ours."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as out:
        left = size
        while left and (chunk := file.read(min(left, _CHUNK))):
            left -= out.write(chunk)
    if left:
        raise InvalidInput(f"is cut off: {target.name} lacks {left} bytes", place)


def _expect_zeros(found: bytes, size: int, place: str) -> None:
    if len(found) < size or found.strip(b"\0"):
        raise InvalidInput("is damaged: padding is missing or not empty", place)


def _check_size(name: str, size: int, limits: BundleLimits) -> None:
    if size > limits.files[name]:
        raise InvalidInput(f"has {size:,} bytes, at most {limits.files[name]:,} are taken", name)


def _check_whole(sizes: Mapping[str, int], limits: BundleLimits, place: str) -> None:
    total = sum(sizes.values())
    if total > limits.max_bytes:
        raise InvalidInput(f"holds {total:,} bytes, at most {limits.max_bytes:,} are taken", place)
    missing = [name for name in REQUIRED if name not in sizes]
    if missing:
        raise InvalidInput(f"lacks {', '.join(missing)}", place)
