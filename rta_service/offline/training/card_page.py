"""The model card as one HTML file: figures, plots inline, nothing loaded from elsewhere."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

from rta_service.offline.training import card_plots
from rta_service.offline.training.growing import gains
from rta_service.offline.training.head_training import Fitted
from rta_service.offline.training.model_card import (
    MICROS,
    choices_told,
    day,
    limits,
    marks,
    question,
    slice_cells,
)
from rta_service.offline.training.slices import SOLID_POSITIVES, slices
from rta_service.scoring.manifest import ModelManifest

_STYLE: Final = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1d2733; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.15rem 0.8rem; text-align: right; border-bottom: 1px solid #d9dfe5; }
th:first-child, td:first-child { text-align: left; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; }
figcaption { font-size: 0.85rem; color: #56616c; max-width: 28rem; }
"""

_PLOTTED: Final = ("platform", "placement", "stage", "stage x platform")


def write_page(manifest: ModelManifest, fitted: Fitted, remarks: tuple[str, ...]) -> str:
    """Write the card as HTML; every word that comes from data is escaped."""
    title = f"{manifest.name} {manifest.version}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _paragraph(
            f"{question(manifest)}: {fitted.choices.trees} trees, {manifest.rows:,} rows from"
            f" {day(manifest.trained_from_s)} to {day(manifest.trained_to_s)}. Figures are of"
            f" {manifest.evaluation.rows:,} rows ({manifest.evaluation.positives:,} positive) that"
            " neither trees nor calibration saw."
        ),
        _table([marks(manifest)]),
        _plots(fitted),
        *_slices(fitted),
        "<h2>Choices made in training</h2>",
        _list(choices_told(fitted.choices, remarks)),
        "<h2>Limits</h2>",
        _list(limits(manifest, fitted.choices)),
    ]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}'
        f"</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _plots(fitted: Fitted) -> str:
    rows, predictions = fitted.rows, fitted.predictions
    unit = float(MICROS) if rows.is_value else 1.0
    drawn = {
        "Calibration: twentieths of the rows by prediction, with 95 % intervals.": (
            card_plots.calibration_plot(rows, predictions, unit)
        ),
        "Predictions by value tier: 5, 25, 50, 75 and 95 % of the tier's rows lie below.": (
            card_plots.tiers_plot(rows, predictions, unit)
        ),
        "What it looks at: each feature's share of all gain.": (
            card_plots.importance_plot(gains(fitted.grown.booster))
        ),
        "Learning: the folds' loss after each tree; the line is the number taken.": (
            card_plots.learning_plot(fitted.curves, fitted.choices.trees)
        ),
    }
    return _figures(drawn)


def _slices(fitted: Fitted) -> Iterable[str]:
    yield "<h2>Calibration by slices</h2>"
    yield _paragraph(
        "PCOC is mean prediction over what was observed, with its 95 % interval; the band is 0.9 to"
        f" 1.1. Slices with fewer than {SOLID_POSITIVES:,} positives are marked ~ and drawn hollow."
    )
    found = slices(fitted.rows, fitted.predictions)
    yield _figures({f"By {kind}.": card_plots.slices_plot(kind, found[kind]) for kind in _PLOTTED})
    for kind, parts in found.items():
        yield f"<h3>By {escape(kind)}</h3>"
        yield _table([slice_cells(part) for part in parts])


def _figures(drawn: Mapping[str, str]) -> str:
    shown = (
        f"<figure>{svg}<figcaption>{escape(told)}</figcaption></figure>"
        for told, svg in drawn.items()
    )
    return f'<div class="plots">\n{"".join(shown)}\n</div>'


def _table(lines: list[dict[str, str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in lines[0])
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line.values()) + "</tr>\n"
        for line in lines
    )
    return f"<table>\n<tr>{head}</tr>\n{rows}</table>"


def _list(lines: Iterable[str]) -> str:
    return "<ul>\n" + "".join(f"<li>{escape(line)}</li>\n" for line in lines) + "</ul>"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"
