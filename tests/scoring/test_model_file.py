"""A model's file gives back what was put in, or is refused with its reason."""

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.domain.errors import ModelRefused
from rta_service.features import FEATURE_NAMES
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.manifest import ModelManifest
from rta_service.scoring.model_file import Header, encode_model, object_path, read_model

MakeManifest = Callable[..., ModelManifest]

ARRAYS_OF_THE_SMALL_FOREST = "432ea66908318cbf06d349d4b7017aac74dda2a3b69ec287a5abfed12d3ceb46"
ARRAYS = [field.name for field in fields(FlatForest)][3:]


@st.composite
def forests(draw: st.DrawFn) -> FlatForest:
    """Draw arrays of every length and value that fit one another; most can't be scored with."""
    nodes = draw(st.lists(st.integers(0, 4), max_size=5))
    leaves = [count + 1 for count in nodes]
    cats = [draw(st.integers(0, count)) for count in nodes]
    words = [draw(st.integers(1, 3)) for _ in range(sum(cats))]
    n, m, w = sum(nodes), sum(leaves), sum(words)

    def starts(counts: list[int]) -> Any:
        return np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).astype(np.int64)

    def values(count: int, dtype: Any) -> Any:
        size = count * np.dtype(dtype).itemsize
        return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype)

    return FlatForest(
        objective=draw(st.sampled_from(["binary", "regression", "gamma"])),
        sigmoid=draw(st.floats(0.1, 10.0)),
        feature_names=FEATURE_NAMES,
        node_start=starts(nodes),
        leaf_start=starts(leaves),
        cat_start=starts(cats),
        split_feature=values(n, np.int32),
        threshold=values(n, np.float64),
        decision_type=values(n, np.uint8),
        left=values(n, np.int32),
        right=values(n, np.int32),
        leaf_value=values(m, np.float64),
        node_count=values(n, np.int64),
        leaf_count=values(m, np.int64),
        cat_offset=starts(words),
        cat_words=values(w, np.uint32),
    )


def written(folder: Path, data: bytes) -> tuple[Path, str]:
    sha256 = hashlib.sha256(data).hexdigest()
    path = folder / sha256
    path.write_bytes(data)
    return path, sha256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def sound(make_manifest: MakeManifest, small_forest: FlatForest) -> bytes:
    return encode_model(make_manifest(), small_forest)


@given(forests())
def test_what_is_written_reads_back_the_same(
    make_manifest: MakeManifest, folder: Path, forest: FlatForest
) -> None:
    data = encode_model(make_manifest(), forest)
    manifest, found = read_model(*written(folder, data))

    assert manifest == make_manifest()
    assert (found.objective, found.sigmoid) == (forest.objective, forest.sigmoid)
    assert found.feature_names == forest.feature_names
    for name in ARRAYS:
        one, other = getattr(found, name), getattr(forest, name)
        assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())
        assert not one.flags.writeable
        assert one.ctypes.data % 64 == 0
    assert encode_model(manifest, found) == data


def test_the_layout_of_format_1_never_changes(sound: bytes) -> None:
    start = msgspec.json.decode(header_of(sound), type=Header).arrays[0].offset

    # models that were uploaded lie on disks like this: another layout needs another FORMAT
    assert sound[:12] == b"RTAFORST\x01\x00\x00\x00"
    assert hashlib.sha256(sound[start:-32]).hexdigest() == ARRAYS_OF_THE_SMALL_FOREST


@given(st.data())
def test_any_flipped_bit_is_refused(sound: bytes, folder: Path, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(sound) - 1))
    damaged = bytearray(sound)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "flipped").write_bytes(damaged)

    with pytest.raises(ModelRefused, match=r"flipped: damaged or changed, its SHA-256 is"):
        read_model(folder / "flipped", hashlib.sha256(sound).hexdigest())
    with pytest.raises(ModelRefused, match="does not end with its own checksum"):
        read_model(*written(folder, bytes(damaged)))


@given(st.data())
def test_any_cut_is_refused(sound: bytes, folder: Path, data: st.DataObject) -> None:
    cut = sound[: data.draw(st.integers(0, len(sound) - 1))]
    (folder / "cut").write_bytes(cut)

    with pytest.raises(ModelRefused, match=r"cut: damaged"):
        read_model(folder / "cut", hashlib.sha256(sound).hexdigest())
    with pytest.raises(ModelRefused, match="damaged"):
        read_model(*written(folder, cut))


def test_a_longer_file_is_refused(sound: bytes, folder: Path) -> None:
    with pytest.raises(ModelRefused, match="does not end with its own checksum"):
        read_model(*written(folder, sound + b"\0"))


def test_a_missing_file_is_named(folder: Path) -> None:
    with pytest.raises(ModelRefused, match=r"none: can't be read \(No such file"):
        read_model(folder / "none", "0" * 64)


def test_another_models_file_under_this_name_is_refused(
    make_manifest: MakeManifest, small_forest: FlatForest, sound: bytes, folder: Path
) -> None:
    path, _ = written(folder, encode_model(make_manifest("trade"), small_forest))

    with pytest.raises(ModelRefused, match="another model's file, its SHA-256 is"):
        read_model(path, hashlib.sha256(sound).hexdigest())


def resealed(data: bytes, header: bytes | None = None, format_version: int = 1) -> bytes:
    """Write the file anew with another header, seal and all: damage that hashes don't show."""
    old = header_of(data)
    header = old if header is None else header
    body = data[:8] + struct.pack("<II", format_version, len(header)) + header
    body += data[16 + len(old) : -32]
    return body + hashlib.sha256(body).digest()


def header_of(data: bytes) -> bytes:
    (length,) = struct.unpack_from("<I", data, 12)
    return data[16 : 16 + length]


def changed(data: bytes, **changes: dict[str, Any]) -> bytes:
    """Change fields of the header, of its manifest, or of lines in its table (array: split_feature)."""
    header = msgspec.json.decode(header_of(data))
    for stored in header["arrays"]:
        stored["offset"] += 128  # room for a longer header
    header["manifest"] |= changes.get("manifest", {})
    header["arrays"][1] |= changes.get("leaf_start", {})
    header["arrays"][3] |= changes.get("array", {})
    header |= changes.get("header", {})
    return resealed(data, msgspec.json.encode(header).ljust(len(header_of(data)) + 128))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"array": {"offset": 1 << 40}}, "split_feature does not lie within"),
        ({"array": {"offset": 64 * 1_000}}, "split_feature does not lie within"),
        ({"array": {"offset": -64}}, "split_feature does not lie within"),
        ({"array": {"offset": 1}}, "split_feature does not lie within"),
        ({"array": {"count": 1 << 60}}, "split_feature does not lie within"),
        ({"array": {"count": -1}}, "split_feature does not lie within"),
        ({"array": {"dtype": "<i8"}}, "split_feature does not lie within"),
        ({"array": {"crc32": 1}}, "split_feature is damaged"),
        ({"array": {"count": 0, "crc32": 0}}, "split_feature has 0 values too few"),
        ({"array": {"name": "fame"}}, "its arrays are not those of a forest"),
        ({"header": {"arrays": []}}, "its arrays are not those of a forest"),
        ({"header": {"objective": "fame"}}, r"Invalid enum value 'fame' - at `\$\.objective`"),
        ({"manifest": {"schema": 9}}, "schema 9, this service reads 2"),
        ({"manifest": {"feature_set_id": "abc"}}, "feature set abc, this service computes"),
    ],
)
def test_a_header_that_lies_is_refused_though_all_hashes_fit(
    sound: bytes, folder: Path, changes: dict[str, Any], reason: str
) -> None:
    read_model(*written(folder, changed(sound)))
    with pytest.raises(ModelRefused, match=reason):
        read_model(*written(folder, changed(sound, **changes)))


def test_other_formats_and_other_files_are_refused(sound: bytes, folder: Path) -> None:
    with pytest.raises(ModelRefused, match="format 2, this service reads 1"):
        read_model(*written(folder, resealed(sound, format_version=2)))
    with pytest.raises(ModelRefused, match="is not a model file"):
        read_model(*written(folder, resealed(b"PARQUETS" + sound[8:])))
    with pytest.raises(ModelRefused, match="malformed"):
        read_model(*written(folder, resealed(sound, b"{,")))
    with pytest.raises(ModelRefused, match="too short for a model"):
        read_model(*written(folder, hashlib.sha256(b"").digest()))


def test_starts_that_fall_or_differ_in_length_are_refused(
    make_manifest: MakeManifest, small_forest: FlatForest, sound: bytes, folder: Path
) -> None:
    falling = encode_model(make_manifest(), replace(small_forest, node_start=np.array([0, 4, 3])))
    shorter = {"count": 2, "crc32": zlib.crc32(np.array([0, 2]).tobytes())}

    for data in (falling, changed(sound, leaf_start=shorter)):
        with pytest.raises(ModelRefused, match="the trees' starts do not fit"):
            read_model(*written(folder, data))


def test_a_forest_of_other_columns_than_the_manifests_is_not_written(
    make_manifest: MakeManifest, small_forest: FlatForest
) -> None:
    names = ("age", *FEATURE_NAMES[1:])

    with pytest.raises(ModelRefused, match="feature_names are not those of its manifest"):
        encode_model(make_manifest(), replace(small_forest, feature_names=names))


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "A" * 64, "0" * 63, "g" * 64])
def test_only_a_hash_names_an_object(tmp_path: Path, sha256: str) -> None:
    with pytest.raises(ModelRefused, match="is not a SHA-256"):
        object_path(tmp_path, sha256)
    assert object_path(tmp_path, "0" * 64).parent == tmp_path / "objects"


def test_the_header_says_all_that_the_arrays_do_not(sound: bytes) -> None:
    header = msgspec.json.decode(header_of(sound), type=Header)

    assert [stored.name for stored in header.arrays] == ARRAYS


def test_the_file_is_mapped_read_only_and_its_pages_are_shared(sound: bytes, folder: Path) -> None:
    path, sha256 = written(folder, sound)
    mapped = read_model(path, sha256)

    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if sha256 in line]

    assert [line.split()[1] for line in lines] == ["r--s"]
    assert mapped[1].trees == 2
