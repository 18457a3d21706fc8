"""From a behaviour log to models to publish: the steps of `rta models train`, in order."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from rich.progress import Progress

from rta_service.domain.errors import InvalidInput
from rta_service.domain.funnel import REGISTER, TRADE, HeadSpec
from rta_service.offline.events import CleanLog, LogOptions, clean_log
from rta_service.offline.training.bundles import Bundle, write_bundle
from rta_service.offline.training.cuts import choose_cuts, split
from rta_service.offline.training.dataset import Dataset
from rta_service.offline.training.funnel_file import Funnel
from rta_service.offline.training.growing import Chance
from rta_service.offline.training.head_training import Fitted, HeadOptions, HeadTask, train_head
from rta_service.offline.training.progress import HeadBars
from rta_service.offline.training.reading import DatasetOptions, read_dataset
from rta_service.offline.training.report import HeadReport, TrainReport
from rta_service.offline.training.tuning import require_optuna
from rta_service.scoring.manifest import ModelManifest
from rta_service.scoring.metrics import log_loss
from rta_service.scoring.model_set import TRADE_GIVEN_REGISTER

_REQUIRED: Final = (REGISTER, TRADE)
_UNSURE: Final = 0.01
"""Ratios reach 1; without this, one wrong certainty would decide the comparison."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to read the log, make rows of it, and train."""

    log: LogOptions = field(default_factory=LogOptions)
    dataset: DatasetOptions = field(default_factory=DatasetOptions)
    funnel: Funnel = field(default_factory=Funnel)
    heads: HeadOptions = field(default_factory=HeadOptions)
    min_rows: int = 500
    """Clicks with a known outcome that `register` and `trade` need."""
    min_positives: int = 50
    """Of those, how many must have led to the goal."""
    min_positives_given: int = 200
    """Positives from which all other heads are trained."""
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
    if options.heads.tune_s > 0.0:
        require_optuna()
    heads = options.funnel.heads
    progress = progress or Progress(disable=True)
    task = progress.add_task("reading the log", total=3 + len(heads))
    log = clean_log(source, replace(options.log, now_ms=options.log.now_ms or now_ms))
    try:
        progress.update(task, advance=1, description="rebuilding records as of each impression")
        dataset = read_dataset(log, options.dataset, heads)
    finally:
        log.close()
    run = _Training(dataset, options, str(source), progress)
    for spec in heads:
        progress.update(task, advance=1, description=f"training {spec.name}")
        run.train(spec)
    progress.update(task, advance=1, description="writing bundles and cards")
    for name, bundle in run.bundles.items():
        run.manifests[name] = write_bundle(out, bundle, now_ms)
    progress.update(task, advance=1, description="models trained")
    return run.report(log)


class _Training:
    """One run over a dataset: heads in the funnel's order, later ones compared with earlier."""

    def __init__(
        self, dataset: Dataset, options: TrainOptions, place: str, progress: Progress
    ) -> None:
        self.dataset = dataset
        self.options = options
        self.place = place
        self.progress = progress
        self.chance = Chance(options.seed, options.num_threads)
        specs = {spec.name: spec for spec in options.funnel.heads}
        self.rows = {name: dataset.head_rows(spec) for name, spec in specs.items()}
        self.bundles: dict[str, Bundle] = {}
        self.manifests: dict[str, ModelManifest] = {}
        self.reasons: dict[str, str] = {}
        for name in _REQUIRED:
            self._require(name)

    def train(self, spec: HeadSpec) -> None:
        """Train one head, or note why the log can't feed it."""
        name = spec.name
        reason = self._reason_against(name)
        if reason and name in _REQUIRED:
            raise InvalidInput(f"can't train {name}: {reason}", self.place)
        if reason:
            self.reasons[name] = reason
            return
        task = HeadTask(
            spec,
            self.rows[name],
            self.dataset.fresh_rows(spec),
            self.dataset.end_s,
            dict(self.options.funnel.monotone.get(name, {})),
        )
        bars = HeadBars(self.progress, name)
        fitted = train_head(task, self.options.heads, self.chance, bars)
        bars.done()
        prefer, told = self._preference(name, fitted)
        self.bundles[name] = Bundle(spec, self.rows[name], fitted, self.options.seed, prefer, told)

    def report(self, log: CleanLog) -> TrainReport:
        """Tell what became of every head."""
        return TrainReport(
            heads={
                name: HeadReport(
                    self.manifests.get(name),
                    dict(rows.dropped),
                    self.reasons.get(name, ""),
                    self.bundles[name].fitted.choices if name in self.bundles else None,
                )
                for name, rows in self.rows.items()
            },
            unattributed=self.dataset.unattributed,
            sampled_share=self.dataset.sampled_share,
            exposures_share=self.dataset.exposures_share,
            skipped=log.skipped,
            rejected=log.rejected,
        )

    def _require(self, name: str) -> None:
        rows, needed = self.rows[name], self.options
        found, positives = len(rows), rows.positives
        if found < needed.min_rows or positives < needed.min_positives:
            raise InvalidInput(
                f"can't train {name}: {found:,} clicks with a known outcome ({_list(rows.dropped)}"
                f" left out), {positives:,} of them led to {name}; at least {needed.min_rows:,} and"
                f" {needed.min_positives:,} are needed: give a longer log",
                self.place,
            )

    def _reason_against(self, name: str) -> str:
        """Say why a head can't be trained, or give nothing."""
        rows, needed = self.rows[name], self.options.min_positives_given
        if name not in _REQUIRED and rows.positives < needed:
            return f"{rows.positives} positives, {needed} are needed"
        parts = split(rows, choose_cuts(rows))
        for use, part in zip(parts._fields, parts, strict=True):
            if part.is_value:
                if len(np.unique(part.labels)) <= 1:
                    return f"{len(part)} trades, of no two amounts, to {use}"
            elif not 0 < part.positives < len(part):
                return f"{part.positives} positives in {len(part)} rows to {use}"
        return ""

    def _preference(
        self, name: str, fitted: Fitted
    ) -> tuple[Literal["head", "ratio"], tuple[str, ...]]:
        """For trade given register: is this head or the ratio of the click heads less surprised?

        Both are asked about the same registrations of this head's evaluation week, with the record
        as of the click before them, which is what the service knows when it must answer. The trees
        of `register`, whose labels are known earlier, may have learned from some of these clicks.
        """
        if name != TRADE_GIVEN_REGISTER or not {*_REQUIRED} <= self.bundles.keys():
            return "head", ()
        trade, register = (
            self.bundles[head].fitted.predict(fitted.rows.matrix) for head in (TRADE, REGISTER)
        )
        ratio, head = (
            log_loss(fitted.rows.labels, np.clip(values, _UNSURE, 1.0 - _UNSURE))
            for values in (trade / register, fitted.predictions)
        )
        told = f"Log loss of this head {head:.4f}, of the ratio trade / register {ratio:.4f}."
        return ("head" if head <= ratio else "ratio"), (told,)


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
