"""A page for people: the tables of a bench, and what a few campaigns went through.

One file with drawings inside, and nothing from elsewhere.
"""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Final

import numpy as np

from rta_service.demo.control_bench.lineup import OURS
from rta_service.demo.control_bench.playing import Outcome, Path
from rta_service.demo.control_bench.tables import HEADS, cells, mark_cells
from rta_service.demo.control_bench.verdict import OWN, Verdict
from rta_service.simulation.wind_tunnel.curves import Floats
from rta_service.simulation.wind_tunnel.scenario import load_scenario

_WIDTH, _HEIGHT, _LEFT, _FOOT = 300.0, 130.0, 34.0, 18.0
_COLOURS: Final = ("#0b6e4f", "#b3541e")
"""Of ours, and of the PID."""
_CURVES: Final = (
    ("ratio", "cost over target, so far", 2.0, 1.0),
    ("multiplier", "bid over T x prediction", 6.0, None),
    ("spend", "spent, over the best's cost", 1.5, 1.0),
)
"""Field, title, the most that is drawn, and a line to compare with."""
_STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1020px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:.6em 0 1.4em;font-size:13px}
td,th{padding:2px 9px;border-bottom:1px solid #ddd;text-align:right}
td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}
tr.own{font-weight:600} tr.missed td{background:#fff1dd}
figure{margin:.4em 0 1em} figcaption{font-size:13px;color:#444} svg{margin-right:8px}
"""


def page_of(verdict: Verdict, outcomes: dict[str, Outcome]) -> str:
    """Write the page."""
    word = "No baseline beats it in any bucket." if verdict.passed else "A baseline beats it."
    parts = ["<h1>The cost controller in the wind tunnel</h1>", f"<p>{word} {_KEY}</p>"]
    marks = (mark_cells(mark) for mark in verdict.marks)
    heads = ("scenario", "conversions", "figure", "target", "found", "")
    missed = [("" if mark.met else "missed") for mark in verdict.marks]
    parts += ["<h2>Targets</h2>", _table(heads, zip(missed, marks, strict=True))]
    for scenario, rows in groupby(verdict.rows, key=lambda row: row.scenario):
        parts.append(f"<h2>{escape(scenario)}</h2>")
        parts.append(f"<p>{escape(load_scenario(scenario).description)}</p>")
        told = [("own" if row.player in OWN else "", cells(row)) for row in rows]
        parts.append(_table(HEADS, told))
        parts += [_figure(paths) for paths in chosen(outcomes[scenario].paths)]
    head = f"<meta charset=utf-8><title>Cost control</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


_KEY: Final = (
    f'Curves: <b style="color:{_COLOURS[0]}">ours</b>, '
    f'<b style="color:{_COLOURS[1]}">the tuned PID</b>. The first curve counts the conversions '
    "that a purchase will have brought in the end, also those that nobody has been told of yet."
)


def chosen(paths: Sequence[Path]) -> list[list[Path]]:
    """Choose three campaigns to look at: our median error, our worst, and the smallest bucket's."""
    ours = sorted((path for path in paths if path.player == OURS), key=lambda path: path.error)
    if not ours:
        return []
    many = [path for path in ours if path.bucket in {"100-300", "> 300"}] or ours
    few = [path for path in ours if path.bucket == "30-100"] or ours
    picked = dict.fromkeys(p.campaign for p in (many[len(many) // 2], few[len(few) // 2], many[-1]))
    return [[path for path in paths if path.campaign == name] for name in picked]


def _table(heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = []
    for kind, told in rows:
        tds = "".join(f"<td>{escape(cell)}</td>" for cell in told)
        body.append(f'<tr class="{kind}">{tds}</tr>')
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _figure(paths: Sequence[Path]) -> str:
    drawn = "".join(_chart(paths, *curve) for curve in _CURVES)
    errors = ", ".join(f"{path.player} {path.error:.1%} off" for path in paths)
    told = f"{paths[0].campaign}, {paths[0].bucket} conversions: {errors}"
    return f"<figure>{drawn}<figcaption>{escape(told)}</figcaption></figure>"


def _chart(
    paths: Sequence[Path], column: str, title: str, most: float, wanted: float | None
) -> str:
    series: list[Floats] = [getattr(path, column) for path in paths]
    top = min(most, 1.05 * max(float(np.nanmax(one, initial=0.1)) for one in series))
    lines = [_line(one, top, colour) for one, colour in zip(series, _COLOURS, strict=False)]
    if wanted is not None and wanted < top:
        height = _y(wanted, top)
        lines.append(
            f'<path d="M{_LEFT} {height:.1f}H{_WIDTH}" stroke="#888" stroke-dasharray="3 3"/>'
        )
    axis = f'<path d="M{_LEFT} {_FOOT}V{_HEIGHT}H{_WIDTH}" stroke="#bbb" fill="none"/>'
    words = (
        f'<text x="{_LEFT}" y="12">{escape(title)}</text>'
        f'<text x="2" y="{_FOOT + 8}">{top:.3g}</text><text x="2" y="{_HEIGHT}">0</text>'
    )
    size = f'width="{_WIDTH:.0f}" height="{_HEIGHT + 4:.0f}" font-size="11"'
    return (
        f'<svg {size} role="img" aria-label="{escape(title)}">{axis}{"".join(lines)}{words}</svg>'
    )


def _line(values: Floats, top: float, colour: str) -> str:
    across = np.linspace(_LEFT, _WIDTH, len(values))
    inside = np.clip(np.nan_to_num(values), 0.0, top)
    points = " ".join(f"{x:.1f},{_y(v, top):.1f}" for x, v in zip(across, inside, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'


def _y(value: float, top: float) -> float:
    return _HEIGHT - (_HEIGHT - _FOOT) * value / top
