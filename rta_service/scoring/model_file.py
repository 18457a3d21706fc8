"""A model as it is kept and served: one immutable file of a manifest and a forest's arrays.

    offset 0   magic, format version and length of the header (little-endian)
    16         header, JSON: the manifest written anew from its fields, and a table of the arrays
    ...        the arrays, little-endian, each at a multiple of 64 bytes, zeros between them
    end - 32   SHA-256 of all before it

The file is named by its own SHA-256, so that a release which names it names every byte. Manifest
and calibration can't be mixed with other trees. Workers map the file: they share its pages.
"""

import hashlib
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.errors import ModelRefused
from rta_service.scoring.flat_forest import FlatForest, Objective
from rta_service.scoring.manifest import SCHEMA, ModelManifest, check_features

FORMAT: Final = 1
OBJECTS: Final = "objects"
SUFFIX: Final = ".forest"

_MAGIC: Final = b"RTAFORST"
_PREFIX: Final = struct.Struct("<8sII")
_ALIGNMENT: Final = 64
"""A cache line, and what vector loads like best."""
_TRAILER_BYTES: Final = 32
_HEX_CHARACTERS: Final = 64

_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "node_start": np.dtype("<i8"),
    "leaf_start": np.dtype("<i8"),
    "cat_start": np.dtype("<i8"),
    "split_feature": np.dtype("<i4"),
    "threshold": np.dtype("<f8"),
    "decision_type": np.dtype("u1"),
    "left": np.dtype("<i4"),
    "right": np.dtype("<i4"),
    "leaf_value": np.dtype("<f8"),
    "node_count": np.dtype("<i8"),
    "leaf_count": np.dtype("<i8"),
    "cat_offset": np.dtype("<i8"),
    "cat_words": np.dtype("<u4"),
}


class StoredArray(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where one array of the forest stands in the file."""

    name: str
    dtype: str
    offset: int
    """In bytes from the start of the file."""
    count: int
    crc32: int


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of a model but its arrays; the forest's feature names are the manifest's."""

    manifest: ModelManifest
    objective: Objective
    sigmoid: float
    arrays: tuple[StoredArray, ...]


def object_path(folder: Path, sha256: str) -> Path:
    """Give the file of the model with this hash; raises ModelRefused for what is no SHA-256."""
    if len(sha256) != _HEX_CHARACTERS or set(sha256) - set("0123456789abcdef"):
        raise ModelRefused(f"{folder}: {sha256[:_HEX_CHARACTERS]!r} is not a SHA-256")
    return folder / OBJECTS / f"{sha256}{SUFFIX}"


def encode_model(manifest: ModelManifest, forest: FlatForest) -> bytes:
    """Write a model's file; the same model gives the same bytes.

    Raises ModelRefused when the forest was grown on other columns than the manifest says.
    """
    if forest.feature_names != manifest.feature_names:
        raise ModelRefused(
            f"{manifest.name} {manifest.version}: its feature_names are not those of its manifest"
        )
    arrays = {name: forest.arrays[name].astype(dtype) for name, dtype in _DTYPES.items()}
    crcs = {name: zlib.crc32(array.data) for name, array in arrays.items()}
    header = Header(manifest, forest.objective, forest.sigmoid, _table(arrays, crcs, 0))
    # offsets are written as digits: as they grow, so may the header that they count from
    while (moved := _table(arrays, crcs, _after(header))) != header.arrays:
        header = msgspec.structs.replace(header, arrays=moved)
    return _sealed(header, arrays)


def _table(
    arrays: Mapping[str, NDArray[Any]], crcs: Mapping[str, int], start: int
) -> tuple[StoredArray, ...]:
    """Lay the arrays out one behind another."""
    stored = []
    for name, array in arrays.items():
        start = _aligned(start)
        stored.append(StoredArray(name, array.dtype.str, start, len(array), crcs[name]))
        start += array.nbytes
    return tuple(stored)


def _after(header: Header) -> int:
    return _PREFIX.size + len(msgspec.json.encode(header))


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _sealed(header: Header, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    text = msgspec.json.encode(header)
    data = bytearray(_PREFIX.pack(_MAGIC, FORMAT, len(text)) + text)
    for stored in header.arrays:
        data += bytes(stored.offset - len(data))
        data += arrays[stored.name].tobytes()
    return bytes(data) + hashlib.sha256(data).digest()


def read_model(path: Path, sha256: str) -> tuple[ModelManifest, FlatForest]:
    """Map a model's file read-only and prove that it is what `sha256` names.

    The arrays are views of the mapped pages, which all workers share. Raises ModelRefused naming
    file and reason for a missing, damaged or cut file, another format, or another feature set.
    """
    data = _map(path)
    _check_hash(data, sha256, path)
    header = _header_of(data, path)
    if header.manifest.schema != SCHEMA:
        raise ModelRefused(f"{path}: schema {header.manifest.schema}, this service reads {SCHEMA}")
    check_features(header.manifest, path)
    if tuple(stored.name for stored in header.arrays) != tuple(_DTYPES):
        raise ModelRefused(f"{path}: its arrays are not those of a forest")
    arrays = {stored.name: _array_of(data, stored, path) for stored in header.arrays}
    _check_counts(arrays, path)
    names = header.manifest.feature_names
    return header.manifest, FlatForest(header.objective, header.sigmoid, names, **arrays)


def _map(path: Path) -> memoryview:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ModelRefused(f"{path}: can't be read ({error.strerror})") from error
    except ValueError as error:  # what mmap says of an empty file
        raise ModelRefused(f"{path}: damaged, it is empty") from error


def _check_hash(data: memoryview, sha256: str, path: Path) -> None:
    """Prove the file's own seal and its name in one pass over the bytes."""
    digest = hashlib.sha256(data[:-_TRAILER_BYTES])
    sealed = digest.digest() == data[-_TRAILER_BYTES:]
    digest.update(data[-_TRAILER_BYTES:])
    found = digest.hexdigest()
    if found != sha256:
        what = "another model's file" if sealed else "damaged or changed"
        raise ModelRefused(f"{path}: {what}, its SHA-256 is {found}, not {sha256}")
    if not sealed:
        raise ModelRefused(f"{path}: damaged, it does not end with its own checksum")


def _header_of(data: memoryview, path: Path) -> Header:
    if len(data) < _PREFIX.size + _TRAILER_BYTES:
        raise ModelRefused(f"{path}: too short for a model")
    magic, version, length = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise ModelRefused(f"{path}: is not a model file")
    if version != FORMAT:
        raise ModelRefused(f"{path}: format {version}, this service reads {FORMAT}")
    try:
        return msgspec.json.decode(data[_PREFIX.size : _PREFIX.size + length], type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelRefused(f"{path}: {error}") from error


def _array_of(data: memoryview, stored: StoredArray, path: Path) -> NDArray[Any]:
    """Give a view of one array, once its place in the file and its bytes are proven."""
    dtype = _DTYPES[stored.name]
    end = stored.offset + stored.count * dtype.itemsize
    inside = stored.offset >= _PREFIX.size and end <= len(data) - _TRAILER_BYTES
    if stored.dtype != dtype.str or stored.count < 0 or stored.offset % _ALIGNMENT or not inside:
        raise ModelRefused(f"{path}: the array {stored.name} does not lie within the file")
    if zlib.crc32(data[stored.offset : end]) != stored.crc32:
        raise ModelRefused(f"{path}: the array {stored.name} is damaged")
    return np.frombuffer(data, dtype, stored.count, stored.offset)


_COUNTED_BY: Final = {
    "split_feature": "node_start",
    "threshold": "node_start",
    "decision_type": "node_start",
    "left": "node_start",
    "right": "node_start",
    "node_count": "node_start",
    "leaf_value": "leaf_start",
    "leaf_count": "leaf_start",
    "cat_words": "cat_offset",
}
"""Arrays, and those whose last value says how long they are."""


def _check_counts(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Prove that the arrays fit one another, so that no slice of a tree can leave them."""
    starts = [arrays[name] for name in ("node_start", "leaf_start", "cat_start", "cat_offset")]
    rising = all(len(s) > 0 and s[0] == 0 and bool(np.all(np.diff(s) >= 0)) for s in starts)
    trees = {len(start) for start in starts[:3]}
    if not rising or len(trees) > 1 or starts[2][-1] != len(starts[3]) - 1:
        raise ModelRefused(f"{path}: the trees' starts do not fit one another")
    for name, counter in _COUNTED_BY.items():
        if len(arrays[name]) != arrays[counter][-1]:
            raise ModelRefused(f"{path}: {name} has {len(arrays[name])} values too few or too many")
