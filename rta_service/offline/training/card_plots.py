"""The plots of a model card as SVG: the same figures give the same bytes.

Matplotlib is loaded when the first plot is drawn, and by its figures alone: no window, no state.
"""

import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.user import ValueTier
from rta_service.offline.training.dataset import HeadRows
from rta_service.offline.training.slices import Slice, slice_of

FloatColumn = NDArray[np.float64]

_BLUE: Final = "#1f5fa8"
_GREY: Final = "#9aa4ad"
_BINS: Final = 20
_TOP: Final = 12
_QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_PCOC: Final = 3.0
"""Beyond this, a slice's interval is cut, so that one poor slice leaves the others readable."""


class Frame(NamedTuple):
    """A plot's size in inches, and the room for words left of it."""

    width: float = 4.6
    height: float = 3.6
    left: float = 0.7


_WORDS: Final = Frame(left=1.4)


def draw(name: str, frame: Frame, paint: Callable[[Any], None]) -> str:
    """Paint one set of axes and give it as an SVG element; `name` keeps its ids its own.

    Margins are fixed: letting Matplotlib find them draws everything twice.
    """
    matplotlib = importlib.import_module("matplotlib")
    figures = importlib.import_module("matplotlib.figure")
    chosen = {"svg.hashsalt": f"rta-{name}", "svg.fonttype": "none", "font.size": 9.0}
    with matplotlib.rc_context(chosen):
        width, height, left = frame
        figure = figures.Figure(figsize=(width, height))
        edges = (
            left / width,
            0.45 / height,
            (width - left - 0.1) / width,
            (height - 0.55) / height,
        )
        axes = figure.add_axes(edges)
        axes.spines[["top", "right"]].set_visible(False)
        paint(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def calibration_plot(rows: HeadRows, predictions: FloatColumn, unit: float) -> str:
    """Mean prediction against what came of it in twentieths of the rows, with intervals."""
    order = np.argsort(predictions, kind="stable")
    groups = [g for g in np.array_split(order, min(_BINS, len(order))) if len(g)]
    found = [slice_of("", rows.labels[g], predictions[g], is_value=rows.is_value) for g in groups]
    x = np.array([np.mean(predictions[g]) for g in groups]) / unit
    y = np.array([np.mean(rows.labels[g]) for g in groups]) / unit
    low = np.array(
        [p / s.high if np.isfinite(s.high) else 0.0 for p, s in zip(x, found, strict=True)]
    )
    high = np.array([p / s.low for p, s in zip(x, found, strict=True)])

    def paint(axes: Any) -> None:
        top = float(max(x.max(), y.max())) * 1.1
        axes.plot([0, top], [0, top], color=_GREY, linewidth=1)
        error = [np.maximum(y - low, 0.0), np.maximum(high - y, 0.0)]
        axes.errorbar(x, y, yerr=error, fmt="o", color=_BLUE, markersize=4, linewidth=1)
        axes.set(xlabel="mean prediction", ylabel="observed", xlim=(0, top), ylim=(0, None))

    return draw("calibration", Frame(), paint)


def tiers_plot(rows: HeadRows, predictions: FloatColumn, unit: float) -> str:
    """How predictions spread in each value tier: 5, 25, 50, 75 and 95 % of its rows lie below."""
    boxes = []
    for tier in ValueTier:
        chosen = predictions[rows.tiers == int(tier)] / unit
        if len(chosen):
            whislo, q1, med, q3, whishi = np.quantile(chosen, _QUANTILES)
            label = f"{tier.label} ({len(chosen):,})"
            boxes.append(
                {"label": label, "whislo": whislo, "q1": q1, "med": med, "q3": q3, "whishi": whishi}
            )

    def paint(axes: Any) -> None:
        axes.bxp(boxes, showfliers=False, orientation="horizontal", widths=0.6)
        axes.invert_yaxis()
        axes.set(xlabel="prediction")

    return draw("tiers", _WORDS, paint)


def importance_plot(gains: Mapping[str, float]) -> str:
    """Each feature's share of what all splits gained."""
    shown = [(name, share) for name, share in gains.items() if share > 0.0][:_TOP]

    def paint(axes: Any) -> None:
        names = [name for name, _ in shown]
        axes.barh(names, [share for _, share in shown], color=_BLUE)
        axes.invert_yaxis()
        axes.set(xlabel="share of gain")

    return draw("importance", _WORDS, paint)


def slices_plot(kind: str, found: Sequence[Slice]) -> str:
    """PCOC of each slice with its interval; solid points have 1,000 positives."""
    shown = [part for part in found if part.positives]

    def paint(axes: Any) -> None:
        axes.axvspan(0.9, 1.1, color=_GREY, alpha=0.2, linewidth=0)
        axes.axvline(1.0, color=_GREY, linewidth=1)
        for place, part in enumerate(shown):
            high, low = min(part.high, _MOST_PCOC), min(part.low, _MOST_PCOC)
            axes.plot([low, high], [place, place], color=_BLUE, linewidth=1)
            face = _BLUE if part.is_solid else "white"
            at = min(part.pcoc, _MOST_PCOC)
            axes.plot([at], [place], "o", color=_BLUE, markerfacecolor=face, markersize=4)
        axes.set_yticks(range(len(shown)), [part.name for part in shown])
        axes.set(xlabel="PCOC", ylim=(len(shown) - 0.5, -0.5))

    return draw(f"slices-{kind}", Frame(height=1.0 + 0.22 * len(shown), left=1.7), paint)


def learning_plot(curves: Sequence[FloatColumn], trees: int) -> str:
    """The folds' metric after each tree, and the number that was taken."""

    def paint(axes: Any) -> None:
        for number, curve in enumerate(curves, 1):
            axes.plot(range(1, len(curve) + 1), curve, linewidth=1, label=f"fold {number}")
        axes.axvline(trees, color=_GREY, linewidth=1)
        axes.legend(frameon=False)
        axes.set(xlabel="trees", ylabel="loss on the rows that followed")

    return draw("learning", Frame(), paint)
