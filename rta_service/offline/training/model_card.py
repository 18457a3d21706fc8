"""A model told to people: what it says, from what, how well, and where it ends."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

import numpy as np

from rta_service.domain.thresholds import DAY_S
from rta_service.offline.training.growing import gains
from rta_service.offline.training.head_training import Fitted
from rta_service.offline.training.report import Choices, DelayedMark, TuningMark
from rta_service.offline.training.slices import SOLID_POSITIVES, Slice, slices
from rta_service.scoring.manifest import ModelManifest

MICROS: Final = 1_000_000
_GROUPS: Final = 10
_TOP_FEATURES: Final = 8

_TEMPLATE: Final = """\
# {m.name} {m.version}

{question}: LightGBM {m.lightgbm_version}, {choices.trees} trees ({choices.objective}), seed {m.seed},
feature set {m.feature_set_id}.

{m.rows:,} rows from {first} to {last}, {m.positives:,} of them {positive}.

## Evaluation

On {found.rows:,} rows ({found.positives:,} {positive}), which neither trees nor calibration saw:

{marks}

## Calibration by tenths of the evaluation rows

| tenth | rows | mean prediction | observed |
|---|---|---|---|
{tenths}

## Calibration by slices

PCOC is mean prediction over what was observed, with its 95 % interval. Slices with fewer than
{solid:,} positives are marked ~: their interval says more than their figure.

{slices}

## Choices made in training

{choices_told}

## What it looks at (share of gain)

{top}

## Limits

{limits}
"""

_LIMITS: Final = (
    "It speaks of people who were shown an ad{clicked}; of others it guesses.",
    "It was judged once, on rows it neither learned from nor was calibrated on; markets move.",
    "The record is rebuilt as of the impression; a day-old snapshot knows a little less.",
    "The calibration was fitted on all people together; the slices show where it is off.",
    "Intervals take rows as independent; one person's rows are not, so they are a little wider.",
)
_FRESH_LIMIT: Final = (
    "Trees also learned from rows later than the evaluation rows, whose windows were still open."
)


def write_card(manifest: ModelManifest, fitted: Fitted, remarks: tuple[str, ...]) -> str:
    """Write the card in Markdown; `remarks` are sentences on choices made beside training."""
    return _TEMPLATE.format(
        m=manifest,
        found=manifest.evaluation,
        choices=fitted.choices,
        question=question(manifest),
        positive="trades" if fitted.rows.is_value else "positive",
        first=day(manifest.trained_from_s),
        last=day(manifest.trained_to_s),
        marks=_table([marks(manifest)]),
        tenths="\n".join(_tenths(fitted)),
        solid=SOLID_POSITIVES,
        slices=_slices(slices(fitted.rows, fitted.predictions)),
        choices_told="\n".join(f"- {line}" for line in choices_told(fitted.choices, remarks)),
        top="\n".join(f"- {name}: {share:.1%}" for name, share in _top(fitted)),
        limits="\n".join(f"- {line}" for line in limits(manifest, fitted.choices)),
    )


def question(manifest: ModelManifest) -> str:
    """Say what the model predicts."""
    days = manifest.window_s / DAY_S
    window = f"{days:g} days" if days >= 1.0 else f"{manifest.window_s / 3_600:g} hours"
    if manifest.kind == "value":
        return f"E[money of a trade within {window} of a click], in micros"
    return f"P({manifest.goal.value} within {window} | {manifest.given.value})"


def marks(manifest: ModelManifest) -> dict[str, str]:
    """Give the evaluation's figures by their names."""
    found = manifest.evaluation
    if manifest.kind == "value":
        return {
            "normalised Gini": f"{found.gini:.4f}",
            "gamma loss": f"{found.log_loss:.4f}",
            "mean prediction / mean amount": f"{found.pcoc:.3f}",
        }
    return {
        "AUC": f"{found.auc:.4f}",
        "log loss": f"{found.log_loss:.4f}",
        "PCOC": f"{found.pcoc:.3f}",
    }


def choices_told(choices: Choices, remarks: tuple[str, ...]) -> Iterable[str]:
    """Tell each choice that was made in training, and on which grounds."""
    for number, fold in enumerate(choices.folds, 1):
        yield (
            f"Fold {number}: learned from {fold.learn_rows:,} rows until {day(fold.learn_until_s)},"
            f" judged on {fold.judge_rows:,} rows from {day(fold.judge_from_s)} to"
            f" {day(fold.judge_until_s)}: loss {fold.loss:.4f}, best alone with {fold.trees} trees."
        )
    if choices.negatives_kept < 1.0:
        yield (
            f"{choices.negatives_kept:.1%} of the negatives were learned from; all raw sums are"
            " shifted by the log of that share, which makes up for it exactly."
        )
    if choices.monotone:
        signs = {1: "never falls with", -1: "never rises with"}
        told = ", ".join(f"{signs[sign]} {name}" for name, sign in choices.monotone.items())
        yield f"Monotone: the prediction {told}."
    if choices.delayed:
        yield _delayed(choices.delayed)
    if choices.tuning:
        yield _tuning(choices.tuning)
    yield from (*choices.remarks, *remarks)


def _delayed(mark: DelayedMark) -> str:
    outcome = f"kept, {mark.used_rows:,} rows" if mark.kept else "not used"
    if mark.doubt:
        outcome += f" ({mark.doubt})"
    return (
        "Fresh rows, whose window is not over, with delayed-feedback weights: tried as of the"
        f" evaluation's beginning ({mark.known_rows:,} known, {mark.fresh_rows:,} fresh rows), log"
        f" loss {mark.log_loss_without:.5f} without and {mark.log_loss_with:.5f} with them (error"
        f" of the difference {mark.error:.5f}): {outcome}."
    )


def _tuning(mark: TuningMark) -> str:
    outcome = "the tuned ones won" if mark.won else "the default ones stay"
    told = ", ".join(f"{name} {value:.4g}" for name, value in mark.parameters.items())
    return (
        f"Parameters: {mark.trials} trials; the folds' loss is {mark.default_loss:.5f} with the"
        f" default parameters and {mark.tuned_loss:.5f} with the best found ({told}), error of the"
        f" difference {mark.error:.5f}: {outcome}."
    )


def limits(manifest: ModelManifest, choices: Choices) -> Iterable[str]:
    """Say where the model ends."""
    clicked = "" if manifest.given.value == "exposure" else " and clicked"
    yield from (line.format(clicked=clicked) for line in _LIMITS)
    if choices.delayed and choices.delayed.used_rows:
        yield _FRESH_LIMIT


def day(instant_s: int) -> str:
    """Write an instant as its UTC day."""
    return datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%d")


def slice_cells(part: Slice) -> dict[str, str]:
    """Give a slice's figures by their names."""
    return {
        "slice": part.name,
        "rows": f"{part.rows:,}",
        "positives": f"{part.positives:,}",
        "PCOC": f"{'' if part.is_solid else '~'}{part.pcoc:.3f}",
        "95 % interval": f"{part.low:.3f} to {part.high:.3f}",
    }


def _slices(found: Mapping[str, tuple[Slice, ...]]) -> str:
    return "\n\n".join(
        f"### By {kind}\n\n{_table([slice_cells(part) for part in parts])}"
        for kind, parts in found.items()
    )


def _table(lines: list[dict[str, str]]) -> str:
    head = "| " + " | ".join(lines[0]) + " |\n|" + "---|" * len(lines[0])
    return "\n".join([head, *("| " + " | ".join(line.values()) + " |" for line in lines)])


def _tenths(fitted: Fitted) -> list[str]:
    """Give one table line per tenth of the rows in the order of their predictions."""
    order = np.argsort(fitted.predictions, kind="stable")
    groups = np.array_split(order, min(_GROUPS, len(order)))
    digits = ".0f" if fitted.rows.is_value else ".4f"
    return [
        f"| {place} | {len(group):,} | {fitted.predictions[group].mean():{digits}}"
        f" | {fitted.rows.labels[group].mean():{digits}} |"
        for place, group in enumerate(groups, 1)
    ]


def _top(fitted: Fitted) -> list[tuple[str, float]]:
    shares = gains(fitted.grown.booster)
    return [(name, share) for name, share in shares.items() if share > 0][:_TOP_FEATURES]
