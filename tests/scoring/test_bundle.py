"""Bundles in and out: what a plain tar may hold, and that nothing else comes through."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.domain.errors import InvalidInput
from rta_service.scoring.bundle import BundleLimits, copy_folder, open_folder, pack, unpack

FILES = {
    "model.txt": b"tree\n" * 300,
    "manifest.json": b"{}",
    "golden.json": b"[1, 2]",
    "card.md": b"",
    "signature.json": b"s" * 512,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    for name, data in FILES.items():
        (path / name).write_bytes(data)
    (path / "notes.txt").write_text("not part of it")
    return path


Unpacked = Callable[..., dict[str, bytes]]


@pytest.fixture
def unpacked(tmp_path: Path) -> Unpacked:
    """Unpacks bytes into an empty folder, and gives what lies there afterwards."""

    def call(tar: bytes, limits: BundleLimits | None = None) -> dict[str, bytes]:
        (tmp_path / "u.tar").write_bytes(tar)
        into = tmp_path / "into"
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        bundle = unpack(tmp_path / "u.tar", into, limits or BundleLimits())
        assert {p.name: p.stat().st_size for p in into.iterdir()} == bundle.sizes
        return {name: bundle.read(name) for name in bundle.sizes}

    return call


def packed(folder: Path) -> bytes:
    out = io.BytesIO()
    assert pack(folder, out) == len(out.getvalue())
    return out.getvalue()


def a_tar(*members: tuple[str, bytes], form: int = tarfile.USTAR_FORMAT, **odd: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in odd.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


WHOLE = (("model.txt", b"t"), ("manifest.json", b"{}"), ("golden.json", b"[]"))


def test_what_was_packed_comes_out_and_nothing_else(folder: Path, unpacked: Unpacked) -> None:
    assert unpacked(packed(folder)) == FILES


def test_other_tools_read_our_tar(folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(folder))) as tar:
        found = {m.name: m.size for m in tar.getmembers()}

    assert found == {name: len(data) for name, data in FILES.items()}


def test_the_tar_of_the_systems_own_tool_is_taken(folder: Path, unpacked: Unpacked) -> None:
    made = subprocess.run(["tar", "-c", "-C", folder, *FILES], capture_output=True, check=True)  # noqa: S607 - the system's tool

    assert unpacked(made.stdout) == FILES


@pytest.mark.parametrize(
    ("tar", "words"),
    [
        (a_tar(*WHOLE, ("../model.txt", b"x")), "holds '../model.txt'"),
        (a_tar(*WHOLE, ("/etc/passwd", b"x")), "holds '/etc/passwd'"),
        (a_tar(*WHOLE, ("a" * 60 + "/" + "b" * 60, b"x")), "a path's prefix"),
        (a_tar(*WHOLE, ("model.txt", b"x")), "holds model.txt twice"),
        (a_tar(*WHOLE[1:]), "lacks model.txt"),
        (a_tar(*WHOLE, ("card.md", b""), type=tarfile.SYMTYPE), "a symbolic link"),
        (a_tar(*WHOLE, ("card.md", b""), type=tarfile.LNKTYPE), "a link"),
        (a_tar(("card.md", b""), type=tarfile.DIRTYPE), "a folder"),
        (a_tar(("card.md", b""), type=tarfile.FIFOTYPE), "type b'6'"),
        (a_tar(*WHOLE, mtime=1.5, form=tarfile.PAX_FORMAT), "pack with: tar --format=ustar"),
        (a_tar(("x" * 200, b""), form=tarfile.GNU_FORMAT), "a GNU long name"),
        (a_tar(*WHOLE, linkname="model.txt"), "a link's target"),
        (a_tar(*WHOLE, ("signature.json", bytes(4_097))), "has 4,097 bytes, at most 4,096"),
        (a_tar(*WHOLE)[:3_072], "ends without the two empty blocks"),
        (a_tar(*WHOLE)[:600], "is cut off: model.txt lacks|padding is missing"),
        (a_tar(*WHOLE) + b"x", "padding is missing or not empty"),
        (b"", "ends without"),
        (b"PK\3\4" + bytes(2_000), "is not a plain tar"),
    ],
)
def test_whatever_is_not_a_bundle_is_refused_with_the_reason(
    tar: bytes, words: str, unpacked: Unpacked
) -> None:
    with pytest.raises(InvalidInput, match=words):
        unpacked(tar)


def test_a_whole_that_is_too_large_is_refused_before_it_is_all_written(
    unpacked: Unpacked, tmp_path: Path
) -> None:
    tar = a_tar(("model.txt", bytes(900)), ("manifest.json", bytes(900)), ("golden.json", b"[]"))

    with pytest.raises(InvalidInput, match="holds 1,800 bytes, at most 1,000"):
        unpacked(tar, BundleLimits(max_bytes=1_000))

    assert sum(p.stat().st_size for p in (tmp_path / "into").iterdir()) <= 1_000


def test_a_size_in_base_256_is_refused(unpacked: Unpacked) -> None:
    tar = bytearray(a_tar(*WHOLE))
    tar[124:136] = b"\x80" + bytes(10) + b"\x01"
    tar[148:156] = b"%06o\0 " % (sum(tar[:148]) + 256 + sum(tar[156:512]))

    with pytest.raises(InvalidInput, match="not an octal number"):
        unpacked(bytes(tar))


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_tar_gives_the_files_or_a_reason_and_never_another_error(
    seed: int, unpacked: Unpacked, folder: Path
) -> None:
    chance = np.random.default_rng(seed)
    whole = packed(folder)
    for _ in range(60):
        tar = bytearray(
            whole[: chance.integers(len(whole) + 1)] if chance.random() < 0.2 else whole
        )
        for _ in range(chance.integers(1, 6)):
            if tar:
                block = chance.integers((len(tar) + 511) // 512) * 512
                place = min(int(block + chance.integers(512)), len(tar) - 1)
                tar[place] = chance.integers(256)
        try:
            found = unpacked(bytes(tar))
        except InvalidInput:
            continue
        assert set(found) <= set(FILES)


@given(st.binary(max_size=2_000))
def test_any_bytes_give_a_reason(data: bytes) -> None:
    import tempfile  # noqa: PLC0415 - a fixture would be shared by the examples

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "x.tar"
        path.write_bytes(data)
        with pytest.raises(InvalidInput):
            unpack(path, Path(place))
        assert [p.name for p in Path(place).iterdir()] == ["x.tar"]


def test_a_folder_is_copied_without_what_does_not_belong_to_it(
    folder: Path, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    into.mkdir()

    bundle = copy_folder(folder, into, BundleLimits())

    assert {name: bundle.read(name) for name in bundle.sizes} == FILES
    assert sorted(p.name for p in into.iterdir()) == sorted(FILES)


def test_a_folder_with_a_link_or_without_a_model_is_no_bundle(folder: Path, tmp_path: Path) -> None:
    (folder / "model.txt").unlink()
    with pytest.raises(InvalidInput, match=r"lacks model\.txt"):
        open_folder(folder)

    (folder / "model.txt").symlink_to(folder / "card.md")
    with pytest.raises(InvalidInput, match=r"model\.txt: is not a plain file"):
        open_folder(folder)

    with pytest.raises(InvalidInput, match="lacks"):
        open_folder(tmp_path / "nowhere")
