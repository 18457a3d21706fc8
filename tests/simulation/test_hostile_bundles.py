"""Hostile uploads: all kinds, no two alike, and signed so that no signature gives them away."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.scoring.bundle import MAX_BYTES, unpack
from rta_service.scoring.manifest import MANIFEST, ModelManifest
from rta_service.scoring.signature import TrustedKey, key_id, public_of, verify
from rta_service.simulation.hostile_bundles import Forger, as_tar, hostile_uploads

KEY = bytes(range(32))
TRUSTED = {key_id(public_of(KEY)): TrustedKey("growth", public_of(KEY))}

Files = Mapping[str, bytes]

_HEAD = b"""tree
version=v4
num_class=1
objective=binary sigmoid:1
tree_sizes=50

Tree=0
num_leaves=2
left_child=-1
right_child=-2
threshold=0.5 1 2 3
leaf_value=-1.5 0.25

end of trees
"""


@pytest.fixture
def files() -> Files:
    """A bundle's files; what is in them matters to nobody here."""
    fields = {field.name: 0 for field in msgspec.structs.fields(ModelManifest)}
    return {
        "model.txt": _HEAD,
        MANIFEST: msgspec.json.encode(fields),
        "golden.json": b'{"rows": []}' * 50,
        "evaluation.parquet": b"PAR1" * 500,
        "card.md": b"# card\n",
    }


def refusal_of(tar: Path, into: Path) -> str:
    """Unpack; gives the reason of a refusal, or nothing."""
    try:
        unpack(tar, into)
    except InvalidInput as error:
        return str(error)
    return ""


def test_a_forged_bundle_is_hashed_and_signed_anew(files: Files, tmp_path: Path) -> None:
    forged = Forger(files, KEY).forge("v2", {"model.txt": b"other"})
    (tmp_path / "u.tar").write_bytes(as_tar(forged))
    (tmp_path / "into").mkdir()

    bundle = unpack(tmp_path / "u.tar", tmp_path / "into")

    manifest = msgspec.json.decode(bundle.read(MANIFEST))
    assert manifest["version"] == "v2"
    assert manifest["sha256"] == hashlib.sha256(b"other").hexdigest()
    assert verify(bundle.read(MANIFEST), bundle.read("signature.json"), TRUSTED).name == "growth"
    assert {n: bundle.read(n) for n in files if n not in (MANIFEST, "model.txt")} == {
        n: data for n, data in files.items() if n not in (MANIFEST, "model.txt")
    }


def test_same_seed_same_uploads_and_all_kinds_of_them(files: Files) -> None:
    one, again = (list(hostile_uploads(files, KEY, 1, 600)) for _ in range(2))
    other = list(hostile_uploads(files, KEY, 2, 600))

    assert one == again
    assert [u.data for u in one] != [u.data for u in other]
    assert len({upload.version for upload in [*one, *other]}) == 1_200
    kinds = Counter(upload.kind.split(":")[0] for upload in one)
    assert kinds == {"text": 300, "files": 150, "tar": 150}
    assert len({upload.kind for upload in one}) >= 24 + 20


def test_a_hostile_tar_is_refused_or_harmless_to_unpack(files: Files, tmp_path: Path) -> None:
    tars = [u for u in hostile_uploads(files, KEY, 3, 1_000) if u.kind.startswith("tar: ")]
    (tmp_path / "u.tar").touch()
    unpacked: Counter[str] = Counter()
    for number, upload in enumerate(tars):
        (tmp_path / "u.tar").write_bytes(upload.data)
        into = tmp_path / f"into{number}"
        into.mkdir()
        refusal = refusal_of(tmp_path / "u.tar", into)
        assert refusal.isprintable(), upload.kind
        unpacked[upload.kind] += not refusal
        assert {path.name for path in into.iterdir()} <= MAX_BYTES.keys()

    assert {path.name for path in tmp_path.iterdir() if "into" not in path.name} == {"u.tar"}
    assert unpacked["tar: shuffled"] > 0
    assert unpacked.total() < 0.4 * len(tars)
