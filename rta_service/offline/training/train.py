"""From a behaviour log to published models: the steps of `rta models train`, in order."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import lightgbm
import numpy as np
from rich.progress import Progress

from rta_service.domain.errors import InvalidInput
from rta_service.domain.funnel import DEFAULT_FUNNEL, REGISTER, TRADE, Step
from rta_service.domain.strategy import Goal, OptimisedEvent
from rta_service.features import FEATURE_NAMES, FEATURE_SET_ID
from rta_service.offline.events import LogOptions, clean_log
from rta_service.offline.training.cuts import Cuts, Parts, choose_cuts, split
from rta_service.offline.training.dataset import Dataset, DatasetOptions, HeadRows, read_dataset
from rta_service.offline.training.fit import Chance, Fitted, fit_head
from rta_service.offline.training.model_card import write_card
from rta_service.offline.training.report import HeadReport, TrainReport
from rta_service.scoring.manifest import ModelManifest, write_model
from rta_service.scoring.metrics import log_loss
from rta_service.scoring.model_set import TRADE_GIVEN_REGISTER

HEADS: Final = {
    spec.name: (Goal(spec.goal), OptimisedEvent(spec.given)) for spec in DEFAULT_FUNNEL[:5]
}
_REQUIRED: Final = (REGISTER, TRADE)
MAX_CONTEXTS: Final = 64
"""Kinds of request kept in a manifest: three platforms, four systems and five placements fit."""

_UNSURE: Final = 0.01
"""Ratios reach 1; without this, one wrong certainty would decide the comparison."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to read the log, make rows of it, and train."""

    log: LogOptions = field(default_factory=LogOptions)
    dataset: DatasetOptions = field(default_factory=DatasetOptions)
    min_rows: int = 500
    """Clicks with a known outcome that `register` and `trade` need."""
    min_positives: int = 50
    """Of those, how many must have led to the goal."""
    min_positives_given: int = 200
    """Positives from which the heads given activation or registration are trained."""
    seed: int = 7
    num_threads: int = 0
    """0 means one for few rows, else as many as OpenMP finds."""


def train_models(
    source: Path,
    out: Path,
    options: TrainOptions,
    now_ms: int,
    progress: Progress | None = None,
) -> TrainReport:
    """Train all heads that the log can feed and write them to out/<name>/<version>/.

    Needs no keys: rows are joined by person inside the log, and no id leaves it. Raises
    InvalidInput for a log that can't be read or holds too few clicks or goals.
    """
    progress = progress or Progress(disable=True)
    task = progress.add_task("reading the log", total=2 + len(HEADS))
    log = clean_log(source, replace(options.log, now_ms=options.log.now_ms or now_ms))
    try:
        progress.update(task, advance=1, description="rebuilding records as of each impression")
        dataset = read_dataset(log, options.dataset)
    finally:
        log.close()
    run = _Training(dataset, options, now_ms, str(source))
    for name in HEADS:
        progress.update(task, advance=1, description=f"training {name}")
        run.train(name)
    for name, model in run.models.items():
        write_model(out, model.fitted.text, run.card(name), model.manifest)
    progress.update(task, advance=1, description="models trained")
    return TrainReport(
        heads=run.reports(),
        unattributed=dataset.unattributed,
        sampled_share=dataset.sampled_share,
        skipped=log.skipped,
        rejected=log.rejected,
    )


@dataclass(frozen=True, slots=True)
class _Model:
    manifest: ModelManifest
    fitted: Fitted
    parts: Parts
    remarks: str


class _Training:
    """One run over a dataset: heads in the order of HEADS, later ones compared with earlier."""

    def __init__(self, dataset: Dataset, options: TrainOptions, now_ms: int, place: str) -> None:
        self.options = options
        self.now_ms = now_ms
        self.place = place
        self.rows = {name: dataset.head_rows(*asked) for name, asked in HEADS.items()}
        self.models: dict[str, _Model] = {}
        self.reasons: dict[str, str] = {}
        for name in _REQUIRED:
            self._require(name)
        self.cuts: Cuts = choose_cuts(self._last_to_mature())

    def train(self, name: str) -> None:
        """Train one head, or note why the log can't feed it."""
        rows = self.rows[name]
        parts = split(rows, self.cuts)
        reason = self._reason_against(name, parts)
        if reason and name in _REQUIRED:
            raise InvalidInput(f"can't train {name}: {reason}", self.place)
        if reason:
            self.reasons[name] = reason
            return
        fitted = fit_head(parts, Chance(self.options.seed, self.options.num_threads))
        prefer, remarks = self._preference(name, fitted, parts)
        manifest = self._manifest(name, fitted, prefer)
        self.models[name] = _Model(manifest, fitted, parts, remarks)

    def card(self, name: str) -> str:
        """Write a trained head's card."""
        model = self.models[name]
        return write_card(model.manifest, model.fitted, model.parts.evaluate, model.remarks)

    def reports(self) -> dict[str, HeadReport]:
        """Tell what became of every head."""
        return {
            name: HeadReport(
                self.models[name].manifest if name in self.models else None,
                dict(rows.dropped),
                self.reasons.get(name, ""),
            )
            for name, rows in self.rows.items()
        }

    def _require(self, name: str) -> None:
        rows, needed = self.rows[name], self.options
        found, positives = len(rows.labels), int(np.count_nonzero(rows.labels))
        if found < needed.min_rows or positives < needed.min_positives:
            raise InvalidInput(
                f"can't train {name}: {found:,} clicks with a known outcome ({_list(rows.dropped)}"
                f" left out), {positives:,} of them led to {name}; at least {needed.min_rows:,} and"
                f" {needed.min_positives:,} are needed: give a longer log",
                self.place,
            )

    def _last_to_mature(self) -> HeadRows:
        """Give the click head with the longer window: its rows end first."""
        return min((self.rows[name] for name in _REQUIRED), key=lambda rows: int(rows.as_of_s[-1]))

    def _reason_against(self, name: str, parts: Parts) -> str:
        """Say why a head can't be trained, or give nothing."""
        positives = int(np.count_nonzero(self.rows[name].labels))
        if name not in _REQUIRED and positives < self.options.min_positives_given:
            return f"{positives} positives, {self.options.min_positives_given} are needed"
        for use, part in zip(parts._fields, parts, strict=True):
            if not 0 < part.positives < len(part.labels):
                return f"{part.positives} positives in {len(part.labels)} rows to {use}"
        return ""

    def _preference(
        self, name: str, fitted: Fitted, parts: Parts
    ) -> tuple[Literal["head", "ratio"], str]:
        """For trade given register: is this head or the ratio of the click heads less surprised?

        Both are asked about the same registrations of the evaluation time, with the record as of
        the click before them, which is what the service knows when it must answer.
        """
        if name != TRADE_GIVEN_REGISTER:
            return "head", ""
        trade, register = (
            self.models[head].fitted.probabilities(parts.evaluate.matrix)
            for head in (TRADE, REGISTER)
        )
        ratio, head = (
            log_loss(parts.evaluate.labels, np.clip(values, _UNSURE, 1.0 - _UNSURE))
            for values in (trade / register, fitted.predictions)
        )
        told = f"Log loss of this head {head:.4f}, of the ratio trade / register {ratio:.4f}."
        return ("head" if head <= ratio else "ratio"), told

    def _manifest(
        self, name: str, fitted: Fitted, prefer: Literal["head", "ratio"]
    ) -> ModelManifest:
        rows = self.rows[name]
        goal, given = HEADS[name]
        digest = hashlib.sha256(fitted.text).hexdigest()
        trained_to_s = int(rows.as_of_s[-1])
        return ModelManifest(
            name=name,
            version=f"v{datetime.fromtimestamp(trained_to_s, UTC):%Y%m%d}-{digest[:8]}",
            goal=Step(goal),
            given=Step(given),
            feature_set_id=FEATURE_SET_ID,
            feature_names=FEATURE_NAMES,
            window_s=self.options.dataset.window_s(goal),
            trained_from_s=int(rows.as_of_s[0]),
            trained_to_s=trained_to_s,
            rows=len(rows.labels),
            positives=int(np.count_nonzero(rows.labels)),
            evaluation=fitted.evaluation,
            sha256=digest,
            calibration=fitted.calibration,
            seed=self.options.seed,
            lightgbm_version=lightgbm.__version__,
            created_at_ms=self.now_ms,
            prefer=prefer,
            contexts=_contexts(rows),
        )


def _contexts(rows: HeadRows) -> tuple[tuple[int, int, int, float], ...]:
    """Count what the rows' requests looked like, the commonest first."""
    columns = [FEATURE_NAMES.index(name) for name in ("platform", "os", "placement")]
    seen, counts = np.unique(rows.matrix[:, columns].astype(int), axis=0, return_counts=True)
    commonest = np.argsort(-counts, kind="stable")[:MAX_CONTEXTS]
    return tuple(
        (int(seen[i, 0]), int(seen[i, 1]), int(seen[i, 2]), float(counts[i] / counts.sum()))
        for i in commonest
    )


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
