"""Uploads end to end: what is accepted, what is refused and why, and what is left of it."""

import hashlib
import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
import pytest

from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import InvalidInput, StoreUnavailable
from rta_service.domain.release import ModelRef, Release
from rta_service.record import pack_columns
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.uploading import (
    UploadFacts,
    UploadRules,
    Uploads,
    Verdict,
    accept_upload,
)
from rta_service.scoring.bundle import BundleLimits, pack
from rta_service.scoring.calibration import Calibration
from rta_service.scoring.gates import GateRules
from rta_service.scoring.signature import generate_key
from rta_service.stores.model_folder import bundle_path, entries, find_entry
from rta_service.stores.redis import admin_client
from rta_service.stores.releases import ReleaseStore
from rta_service.stores.traffic_sample import LineUp, SampledRow, SampleWriter, ring_path

MakeBundle = Callable[..., Path]
Accept = Callable[..., Verdict]

NOW_MS = SystemClock().now_ms()
FACTS = UploadFacts(by="ann", at_ms=NOW_MS, why="a better week")


@pytest.fixture
def accept(shelf: Shelf, rules: UploadRules) -> Accept:
    def call(source: Path, held_to: UploadRules | None = None, name: str = "") -> Verdict:
        facts = msgspec.structs.replace(FACTS, name=name)
        return accept_upload(shelf, source, facts, held_to or rules)

    return call


def outcomes(verdict: Verdict) -> dict[str, str]:
    return {gate.name: gate.outcome for gate in verdict.gates}


def what_lies_in(shelf: Shelf) -> set[str]:
    """Give all files of the models folder but verdicts and the lock."""
    found = (p.relative_to(shelf.models_folder) for p in shelf.models_folder.rglob("*"))
    kept = {p for p in found if (shelf.models_folder / p).is_file()}
    return {str(p) for p in kept if p.parts[0] != "verdicts" and p.name != ".lock"}


def test_a_sound_and_signed_model_is_staged_with_every_figure(accepted: Any) -> None:
    folder, verdict = accepted.models_folder, accepted.verdict

    entry = find_entry(folder, "register", "v1")
    assert verdict.accepted, verdict.reason
    assert entry is not None
    assert (entry.ref, entry.by, entry.verdict_id) == (verdict.ref, "ann", verdict.upload_id)
    assert verdict.signed_by == "growth"
    assert set(outcomes(verdict).values()) == {"passed", "skipped"}
    assert outcomes(verdict)["drift_psi"] == outcomes(verdict)["auc_live"] == "skipped"
    kept = bundle_path(folder, entry.ref)
    assert {p.name: p.read_bytes() for p in kept.iterdir()} == {
        p.name: p.read_bytes() for p in accepted.source.iterdir()
    }
    assert list((folder / "uploads").iterdir()) == []


def test_the_same_upload_again_is_known_and_judged_no_second_time(
    shelf_with_v1: Shelf, accept: Accept, accepted: Any, rules: UploadRules
) -> None:
    before = what_lies_in(shelf_with_v1)
    steps: list[str] = []

    again = accept_upload(shelf_with_v1, accepted.source, FACTS, rules, steps.append)

    assert (again.accepted, again.reason, again.ref) == (True, "known", accepted.verdict.ref)
    assert outcomes(again) == outcomes(accepted.verdict)
    assert steps == ["bundle", "manifest", "signature", "version", "verdict"]
    assert what_lies_in(shelf_with_v1) == before
    uploads = Uploads(
        lambda: shelf_with_v1, lambda: rules, SystemClock(), shelf_with_v1.models_folder
    )
    both = {verdict.upload_id for verdict in uploads.verdicts("register", "v1")}
    assert both == {accepted.verdict.upload_id, again.upload_id}


def test_the_same_training_run_again_is_known_though_it_was_written_later(
    shelf_with_v1: Shelf, accept: Accept, a_bundle: MakeBundle, accepted: Any
) -> None:
    before = what_lies_in(shelf_with_v1)
    later = {"manifest": {"created_at_ms": 1_717_999_999_000}}

    again = accept(a_bundle(**later))
    for verdict in (shelf_with_v1.models_folder / "verdicts" / "register").iterdir():
        verdict.unlink()
    judged_again = accept(a_bundle(**later))

    assert (again.accepted, again.reason, again.ref) == (True, "known", accepted.verdict.ref)
    assert (judged_again.reason, judged_again.ref) == ("known", accepted.verdict.ref)
    assert what_lies_in(shelf_with_v1) == before


def test_a_version_never_changes_its_content(
    shelf_with_v1: Shelf, accept: Accept, a_bundle: MakeBundle, accepted: Any, trained_anew: Any
) -> None:
    other = accept(a_bundle(model=trained_anew))

    assert not other.accepted
    assert "version: register v1: exists with another content" in other.reason
    assert [e.ref for e in entries(shelf_with_v1.models_folder)] == [accepted.verdict.ref]


def damaged_text(text: bytes) -> bytes:
    """Change one digit of one leaf: another sound model."""
    at = text.index(b"leaf_value=") + len("leaf_value=-0.")
    digit = text[at : at + 1]
    return text[:at] + (b"1" if digit != b"1" else b"2") + text[at + 1 :]


def a_cycle(text: bytes) -> bytes:
    at = text.index(b"left_child=") + len("left_child=")
    return text[:at] + b"0 " + text[at:].split(b" ", 1)[1]


REFUSED: dict[str, tuple[Callable[[bytes], dict[str, Any]], str]] = {
    "unsigned": (lambda _: {"key": None}, "signature: the bundle has no signature.json"),
    "another's key": (lambda _: {"key": generate_key()}, "is not trusted here"),
    "a changed card is no matter, a changed text is": (
        lambda text: {"files": {"model.txt": text + b"\n"}},
        r"hashes: model\.txt: its SHA-256 is",
    ),
    "golden of another": (
        lambda _: {"files": {"golden.json": b"{}"}},
        r"hashes: golden\.json: its SHA-256",
    ),
    "an unhashed file": (
        lambda _: {"manifest": {"evaluation_sha256": ""}},
        r"hashes: evaluation\.parquet: the manifest does not name",
    ),
    "a hashed file that is missing": (
        lambda _: {"files": {"evaluation.parquet": None}},
        r"hashes: evaluation\.parquet: is missing",
    ),
    "no manifest's form": (
        lambda _: {"files": {"manifest.json": b'{"name": 1}'}},
        r"manifest: manifest\.json: Expected `str`",
    ),
    "a name that is a path": (lambda _: {"manifest": {"name": "../up"}}, "is not a model name"),
    "another question under a known name": (
        lambda _: {"manifest": {"given": "register"}},
        "'register' must predict register given click",
    ),
    "another feature set": (
        lambda _: {"manifest": {"feature_set_id": "x"}},
        "this service computes",
    ),
    "a cyclic tree": (lambda text: {"text": a_cycle(text)}, r"structure: model\.txt: line \d+"),
    "a changed digit, hashed and signed anew": (
        lambda text: {"text": damaged_text(text)},
        "golden_raw: .*, must be <= 1e-09",
    ),
    "no evaluation rows": (
        lambda _: {
            "files": {"evaluation.parquet": None},
            "manifest": {"evaluation_sha256": ""},
        },
        r"auc: the bundle has no evaluation\.parquet, so nothing can be measured",
    ),
    "figures that are not the model's": (
        lambda _: {
            "manifest": {
                "evaluation": {"rows": 1, "positives": 1, "auc": 1, "log_loss": 0, "pcoc": 1}
            }
        },
        "claims: .*, must be <= 1e-06",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_an_upload_is_its_verdict_and_all_that_is_left_of_it(
    case: str, shelf: Shelf, accept: Accept, a_bundle: MakeBundle, trained: Any
) -> None:
    change, words = REFUSED[case]

    verdict = accept(a_bundle(**change(trained.text)))

    assert not verdict.accepted
    assert verdict.ref is None
    assert re.search(words, verdict.reason), verdict.reason
    assert "not_reached" in outcomes(verdict).values()
    assert outcomes(verdict)["store"] == "not_reached"
    assert what_lies_in(shelf) == set()


def test_an_unsound_models_faults_are_kept_with_its_verdict(
    shelf: Shelf, accept: Accept, a_bundle: MakeBundle, trained: Any, rules: UploadRules
) -> None:
    verdict = accept(a_bundle(text=a_cycle(trained.text)))

    kept = Uploads(lambda: shelf, lambda: rules, SystemClock(), shelf.models_folder)
    assert verdict.faults
    assert kept.verdicts("register", "v1") == [verdict]
    assert kept.verdicts("register", "../x") == []


def test_a_refusal_is_noted_too_and_needs_no_store(
    shelf: Shelf, a_bundle: MakeBundle, trained: Any, rules: UploadRules, tmp_path: Path
) -> None:
    source = a_bundle(text=a_cycle(trained.text))
    away = replace(shelf, client=admin_client(f"unix://{tmp_path / 'nowhere.sock'}"))

    verdict = accept_upload(shelf, source, FACTS, rules)
    again = accept_upload(away, source, FACTS, rules)

    (noted,) = shelf.releases.audit(9)
    assert (noted.who, noted.action, noted.why) == ("ann", "upload", "a better week")
    assert noted.what == f"register v1 refused by structure, verdict {verdict.upload_id}"
    assert again.reason == verdict.reason


def test_an_unreadable_upload_has_a_verdict_too(
    shelf: Shelf, accept: Accept, tmp_path: Path
) -> None:
    (tmp_path / "u.tar").write_bytes(b"no tar")

    verdict = accept(tmp_path / "u.tar", name="register")

    assert (verdict.name, verdict.version, verdict.accepted) == ("register", "unreadable", False)
    assert verdict.reason.startswith("bundle: u.tar: ends without")
    assert len(list((shelf.models_folder / "verdicts" / "register").iterdir())) == 1


def test_a_model_sent_under_another_name_is_refused(accept: Accept, a_bundle: MakeBundle) -> None:
    verdict = accept(a_bundle(), name="trade")

    assert "is of 'register', and was sent as 'trade'" in verdict.reason


def test_settings_may_let_unsigned_and_unjudged_models_in_and_the_verdict_says_so(
    accept: Accept, a_bundle: MakeBundle, rules: UploadRules
) -> None:
    source = a_bundle(
        key=None, files={"evaluation.parquet": None}, manifest={"evaluation_sha256": ""}
    )
    lenient = replace(rules, allow_unsigned=True, gates=GateRules(allow_unjudged=True))

    verdict = accept(source, lenient)

    assert verdict.accepted
    assert verdict.signed_by == ""
    assert outcomes(verdict)["signature"] == outcomes(verdict)["auc"] == "skipped"


def test_the_disposable_process_ends_for_what_takes_too_much(
    shelf: Shelf, accept: Accept, a_bundle: MakeBundle, rules: UploadRules
) -> None:
    verdict = accept(a_bundle(), replace(rules, call_seconds=0.05, shared=None))

    assert re.search(r"scores: still busy after 0\.05 s", verdict.reason)
    assert what_lies_in(shelf) == set()


class Decided(ReleaseStore):
    """A store whose current release names these models."""

    live: tuple[ModelRef, ...] = ()

    def current(self) -> Release | None:
        return Release("r1", "s1", self.live, "t1", NOW_MS)


@dataclass(frozen=True)
class ShelfWithLive(Shelf):
    """A shelf on which a release decides."""

    live: tuple[ModelRef, ...] = ()

    @property
    def releases(self) -> ReleaseStore:
        store = Decided(self.client, self.namespace)
        store.live = self.live
        return store


@pytest.fixture
def shelf_with_live(shelf_with_v1: Shelf, accepted: Any) -> ShelfWithLive:
    """A shelf on which `register v1` is live."""
    parts = {f.name: getattr(shelf_with_v1, f.name) for f in fields(shelf_with_v1)}
    return ShelfWithLive(**parts, live=(accepted.verdict.ref,))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A folder with a sample of recent traffic, as a worker leaves it."""
    path = tmp_path / "run"
    path.mkdir()
    chance = np.random.default_rng(9)
    with SampleWriter(ring_path(path, "worker0")) as ring:
        for n in range(1_000):
            columns = {
                "version": np.array([1]),
                "orders": chance.integers(0, 9, 1),
                "last_active_at": 1_700_000_000 - chance.integers(0, 40 * 86_400, 1),
            }
            record = pack_columns({"person_key": np.array([n + 1]), **columns})[0].tobytes()
            ring.add(
                SampledRow(
                    instant_ms=1_700_000_000_000 + n,
                    tag=n,
                    record=record,
                    platform=2,
                    os=1,
                    placement=n % 4,
                    stage=1,
                    flags=0,
                    latency_us=900,
                    line_up=LineUp("r1", (("register", "v1"),)),
                    scores=(0.1,),
                )
            )
    return path


def test_a_model_like_the_live_one_passes_beside_it(
    shelf_with_live: ShelfWithLive,
    a_bundle: MakeBundle,
    trained_anew: Any,
    rules: UploadRules,
    run_dir: Path,
) -> None:
    source = a_bundle(version="v2", model=trained_anew)

    verdict = accept_upload(shelf_with_live, source, FACTS, replace(rules, run_dir=run_dir))

    assert verdict.accepted, verdict.reason
    assert set(outcomes(verdict).values()) == {"passed", "skipped"}
    skipped = {name for name, outcome in outcomes(verdict).items() if outcome == "skipped"}
    assert skipped == {"golden_coverage"}


def test_a_model_that_scores_traffic_otherwise_than_the_live_one_is_refused(
    shelf_with_live: ShelfWithLive,
    a_bundle: MakeBundle,
    trained_anew: Any,
    rules: UploadRules,
    run_dir: Path,
) -> None:
    halved = Calibration(
        trained_anew.calibration.x, tuple(y / 3 for y in trained_anew.calibration.y)
    )
    source = a_bundle(version="v2", model=replace(trained_anew, calibration=halved))

    verdict = accept_upload(shelf_with_live, source, FACTS, replace(rules, run_dir=run_dir))

    assert verdict.reason.startswith("drift_psi: ")
    assert outcomes(verdict)["drift_mean"] == "failed"
    assert outcomes(verdict)["pcoc"] == "not_reached"


def test_a_model_worse_than_the_live_one_on_the_same_rows_is_refused(
    shelf_with_live: ShelfWithLive, a_bundle: MakeBundle, trained: Any, rules: UploadRules
) -> None:
    text = lightgbm.Booster(model_str=trained.text.decode()).model_to_string(num_iteration=2)
    source = a_bundle(version="v2", model=replace(trained, text=text.encode()))

    verdict = accept_upload(shelf_with_live, source, FACTS, rules)

    assert verdict.reason.startswith("log_loss_live: ")
    assert outcomes(verdict)["drift_psi"] == "skipped"


def test_what_is_received_in_pieces_is_judged_like_a_folder(
    shelf: Shelf, a_bundle: MakeBundle, rules: UploadRules
) -> None:
    uploads = Uploads(lambda: shelf, lambda: rules, SystemClock(), shelf.models_folder)
    tar = io.BytesIO()
    pack(a_bundle(), tar)

    with uploads.receive() as received:
        for start in range(0, len(tar.getvalue()), 10_000):
            received.write(tar.getvalue()[start : start + 10_000])
        verdict = uploads.accept(received, "register", "token:ci", "weekly")

    assert verdict.accepted, verdict.reason
    assert (verdict.by, verdict.why) == ("token:ci", "weekly")
    noted = shelf.releases.audit(1)[0]
    assert (noted.who, noted.action, noted.why) == ("token:ci", "upload", "weekly")
    assert noted.what == f"register v1, signed by growth, verdict {verdict.upload_id}"
    assert received.sha256 == hashlib.sha256(tar.getvalue()).hexdigest()
    assert list((shelf.models_folder / "uploads").iterdir()) == []


def test_an_upload_beyond_the_limit_is_stopped_while_it_comes(
    shelf: Shelf, rules: UploadRules
) -> None:
    small = replace(rules, limits=BundleLimits(max_bytes=1_000))
    uploads = Uploads(lambda: shelf, lambda: small, SystemClock(), shelf.models_folder)

    with uploads.receive() as received, pytest.raises(InvalidInput, match="is larger than 65,000"):
        received.write(bytes(65_001))

    assert not received.path.exists()


def test_a_name_that_is_none_is_not_taken(shelf: Shelf, rules: UploadRules) -> None:
    uploads = Uploads(lambda: shelf, lambda: rules, SystemClock(), shelf.models_folder)

    with uploads.receive() as received, pytest.raises(InvalidInput, match="is not a model's name"):
        uploads.accept(received, "../x", "me", "")


def test_trouble_of_our_own_is_no_verdict(
    shelf: Shelf, a_bundle: MakeBundle, rules: UploadRules
) -> None:
    shelf.models_folder.write_text("a file where the folder should be")

    with pytest.raises(StoreUnavailable):
        accept_upload(shelf, a_bundle(), FACTS, rules)


def test_a_lost_store_is_no_verdict_and_leaves_nothing(
    shelf: Shelf, a_bundle: MakeBundle, rules: UploadRules, tmp_path: Path
) -> None:
    away = replace(shelf, client=admin_client(f"unix://{tmp_path / 'nowhere.sock'}"))

    with pytest.raises(StoreUnavailable):
        accept_upload(away, a_bundle(), FACTS, rules)

    assert what_lies_in(shelf) == set()
    assert not (shelf.models_folder / "verdicts").exists()


def test_what_killed_uploads_left_is_removed_an_hour_later(
    shelf: Shelf, accept: Accept, a_bundle: MakeBundle
) -> None:
    uploads = shelf.models_folder / "uploads"
    (uploads / "trial-x" / "objects").mkdir(parents=True)
    (uploads / "received-x.tar").touch()
    for left in uploads.iterdir():
        os.utime(left, (NOW_MS / 1000 - 4_000, NOW_MS / 1000 - 4_000))
    (uploads / "received-y.tar").touch()

    accept(a_bundle(key=None))

    assert [p.name for p in uploads.iterdir()] == ["received-y.tar"]


def test_what_another_upload_removes_meanwhile_is_no_trouble(
    shelf: Shelf, accept: Accept, a_bundle: MakeBundle
) -> None:
    uploads = shelf.models_folder / "uploads"
    uploads.mkdir(parents=True)
    # like a file of an upload that breaks off just now: listed, and gone when looked at
    (uploads / "received-x.tar").symlink_to("nowhere")

    verdict = accept(a_bundle(key=None))

    assert verdict.reason.startswith("signature: ")
