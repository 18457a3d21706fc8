"""A model told to people: what it says, from what, how well, and where it ends."""

from datetime import UTC, datetime
from typing import Final

import numpy as np

from rta_service.domain.thresholds import DAY_S
from rta_service.offline.training.growing import gains
from rta_service.offline.training.head_training import Fitted
from rta_service.scoring.manifest import ModelManifest

_GROUPS: Final = 10
_TOP_FEATURES: Final = 8

_TEMPLATE: Final = """\
# {m.name} {m.version}

P({m.goal} within {days:g} days | {m.given}): LightGBM {m.lightgbm_version}, {trees} trees,
seed {m.seed}, feature set {m.feature_set_id}.

{m.rows:,} rows from {first} to {last}, {m.positives:,} of them positive. {remarks}

## Evaluation

On the last {found.rows:,} rows ({found.positives:,} positive), which neither trees nor
calibration saw:

| AUC | log loss | PCOC |
|---|---|---|
| {found.auc:.4f} | {found.log_loss:.4f} | {found.pcoc:.3f} |

## Calibration by tenths of the evaluation rows

| tenth | rows | mean prediction | observed rate |
|---|---|---|---|
{tenths}

## What it looks at (share of gain)

{top}

## Limits

- It speaks of people who were shown an ad and clicked; of others it guesses.
- It was judged once, on the days after those it learned from; the market may have moved since.
- The record is rebuilt as of the impression. A service that reads a day-old snapshot knows a
  little less than the model was trained on.
- The calibration was fitted on all people together; a single placement or platform may be off.
"""


def write_card(manifest: ModelManifest, fitted: Fitted, remarks: tuple[str, ...]) -> str:
    """Write the card in Markdown; `remarks` are sentences on choices made in training."""
    return _TEMPLATE.format(
        m=manifest,
        found=manifest.evaluation,
        trees=fitted.choices.trees,
        days=manifest.window_s / DAY_S,
        first=_day(manifest.trained_from_s),
        last=_day(manifest.trained_to_s),
        remarks=" ".join(fitted.choices.remarks + remarks),
        tenths="\n".join(_tenths(fitted)),
        top="\n".join(
            f"- {name}: {share:.1%}" for name, share in _top(gains(fitted.grown.booster))
        ),
    )


def _day(instant_s: int) -> str:
    return datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%d")


def _tenths(fitted: Fitted) -> list[str]:
    """Give one table line per tenth of the rows in the order of their predictions."""
    order = np.argsort(fitted.predictions, kind="stable")
    groups = np.array_split(order, min(_GROUPS, len(order)))
    return [
        f"| {place} | {len(group):,} | {fitted.predictions[group].mean():.4f}"
        f" | {fitted.rows.labels[group].mean():.4f} |"
        for place, group in enumerate(groups, 1)
    ]


def _top(gains: dict[str, float]) -> list[tuple[str, float]]:
    return [(name, share) for name, share in gains.items() if share > 0][:_TOP_FEATURES]
