"""Hostile texts, hashed and signed anew, through all stages of an upload.

Each is refused by a named gate, or what is stored of it scores like its origin to the last bit.
"""

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rta_service.demo.world import World
from rta_service.domain.clock import SystemClock
from rta_service.domain.release import ModelRef
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.uploading import UploadFacts, UploadRules, Verdict, accept_upload
from rta_service.scoring.bundle import MAX_BYTES
from rta_service.scoring.calibration import Calibration
from rta_service.scoring.disposable import DisposableProcess
from rta_service.scoring.manifest import MODEL
from rta_service.scoring.model_file import object_path, read_model
from rta_service.simulation.hostile_bundles import Forger, as_tar
from rta_service.simulation.hostile_models import Mutant, mutants, truncations
from rta_service.stores.model_folder import latest_bundles

Files = Mapping[str, bytes]

COUNTS = {"register": 6_500, "trade": 6_500, "value": 6_000, "larger": 1_200}
"""Of mutants of each model; the larger one's text has half a megabyte."""

MIN_COVERAGE = 0.9


@dataclass
class Tally:
    """What became of mutants, by kind; the outcome is the gate that refused, or `same`."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    only_witness: int = 0
    """Told by the witness alone: no golden row differs, and the rows reach enough leaves."""
    deaths: Counter[str] = field(default_factory=Counter)
    """How the disposable process ended, where it did."""

    def add(self, kind: str, verdict: Verdict) -> None:
        outcome = refusing(verdict) if verdict.ref is None else "same"
        self.outcomes[(kind, outcome)] += 1
        if "the process that worked on it" in verdict.reason or "still busy" in verdict.reason:
            self.deaths[f"{kind}: {verdict.reason[:200]}"] += 1
        if outcome == "golden_witness":
            covered = {gate.name: gate.figure for gate in verdict.gates}["golden_coverage"]
            self.only_witness += covered is not None and covered >= MIN_COVERAGE

    def of(self, outcome: str) -> int:
        return sum(count for (_, found), count in self.outcomes.items() if found == outcome)

    def __str__(self) -> str:
        kinds, gates = (sorted(set(words)) for words in zip(*self.outcomes, strict=True))
        lines = [" " * 22 + "".join(f"{gate:>18}" for gate in gates)]
        for kind in kinds:
            counts = (self.outcomes[(kind, gate)] for gate in gates)
            lines.append(f"{kind:<22}" + "".join(f"{count:>18}" for count in counts))
        lines.append(f"{'all':<22}" + "".join(f"{self.of(gate):>18}" for gate in gates))
        lines.append(f"only the witness told {self.only_witness}; deaths {dict(self.deaths)}")
        return "\n".join(lines)


def refusing(verdict: Verdict) -> str:
    """Name the gate that refused; a refusal without one, or without a reason, fails the test."""
    gate = next(gate for gate in verdict.gates if gate.outcome == "failed")
    assert verdict.reason.startswith(f"{gate.name}: ")
    assert len(verdict.reason) > len(gate.name) + 10
    assert verdict.gates[-1].outcome == "not_reached"
    return gate.name


@dataclass(frozen=True)
class Uploader:
    """Uploads a sound bundle in changed forms, each as a version of its own."""

    shelf: Shelf
    rules: UploadRules
    forger: Forger
    tar: Path

    def upload(self, version: str, changed: Files) -> Verdict:
        self.tar.write_bytes(as_tar(self.forger.forge(version, changed)))
        facts = UploadFacts(by="mallory", at_ms=SystemClock().now_ms())
        return accept_upload(self.shelf, self.tar, facts, self.rules)

    def try_all(self, hostile: Iterable[Mutant]) -> Tally:
        """Upload the bundle itself, which must pass, and then with each of these texts."""
        tally = Tally()
        first = self.upload("origin", {})
        assert first.ref is not None, first.reason
        expected = self.stored(first.ref)
        for number, mutant in enumerate(hostile):
            verdict = self.upload(f"m{number}", {MODEL: mutant.data})
            tally.add(mutant.kind, verdict)
            if verdict.ref is not None:
                assert self.stored(verdict.ref) == expected, mutant.kind
        return tally

    def stored(self, ref: ModelRef) -> tuple[str, Calibration]:
        """Give all that decides the scores of what would be served."""
        path = object_path(self.shelf.models_folder, ref.sha256)
        manifest, forest = read_model(path, ref.sha256)
        return forest.digest(), manifest.calibration


@pytest.fixture
def an_uploader(
    shelf: Shelf, rules: UploadRules, upload_key: bytes, tmp_path: Path
) -> Callable[[Files], Uploader]:
    def make(files: Files) -> Uploader:
        return Uploader(shelf, rules, Forger(files, upload_key), tmp_path / "upload.tar")

    return make


def files_of(bundle: Path) -> Files:
    return {name: (bundle / name).read_bytes() for name in MAX_BYTES if (bundle / name).is_file()}


def hostile(text: bytes, count: int) -> Iterator[Mutant]:
    """Cut at every 64 bytes, or as often as a fourth of all allows; and all other kinds."""
    step = max(64, 64 * (len(text) // (16 * count)))
    everything = itertools.chain(truncations(text, step), mutants(text, seed=3, count=count))
    return itertools.islice(everything, count)


@pytest.fixture
def origin(
    request: pytest.FixtureRequest,
    made_world: World,
    a_bundle: Callable[..., Path],
    trained_larger: Any,
) -> Path:
    """Give the bundle of one of the models in COUNTS, by the test's parameter."""
    if request.param == "larger":
        return a_bundle(model=trained_larger)
    trained = latest_bundles(made_world.events.parent / "trained")
    return next(bundle for bundle in trained if bundle.parent.name == request.param)


def test_a_hostile_text_is_refused_by_name_or_scores_like_its_origin(
    an_uploader: Callable[[Files], Uploader], a_bundle: Callable[[], Path]
) -> None:
    files = files_of(a_bundle())

    tally = an_uploader(files).try_all(mutants(files[MODEL], seed=4, count=150))

    assert tally.of("structure") > 75
    assert tally.of("same") > 0
    assert tally.of("golden_raw") > 0


def test_parameters_that_lightgbm_can_not_read_cost_no_process(
    an_uploader: Callable[[Files], Uploader], a_bundle: Callable[[], Path], process: Any
) -> None:
    files = files_of(a_bundle())
    uploader = an_uploader(files)
    first = uploader.upload("v1", {})
    started = process.starts

    damaged = files[MODEL].replace(b"[max_bin_by_feature: ]\n[", b"[max_bin_by_feature: ]*[")
    verdict = uploader.upload("v2", {MODEL: damaged})

    assert first.accepted
    assert verdict.reason.startswith("scores: model.txt: LightGBM can't read it")
    assert process.starts == started


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("origin", "count"), COUNTS.items(), indirect=["origin"])
def test_twenty_thousand_hostile_texts_are_refused_by_name_or_score_like_their_origin(
    an_uploader: Callable[[Files], Uploader], origin: Path, count: int, process: DisposableProcess
) -> None:
    files, started = files_of(origin), process.starts

    tally = an_uploader(files).try_all(hostile(files[MODEL], count))
    said = f"text of {len(files[MODEL]):,} bytes, {process.starts - started} processes started"
    sys.stdout.write(f"\n{said}\n{tally}\n")

    assert sum(tally.outcomes.values()) == count
    assert tally.of("structure") > 0.6 * count
    assert tally.of("same") > 0
