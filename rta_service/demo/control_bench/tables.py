"""Shows a bench to a person: a table a scenario, then the targets, then who beat us."""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

import numpy as np
from rich.console import RenderableType
from rich.table import Column, Table

from rta_service.demo.control_bench.verdict import OWN, Mark, Row, Verdict
from rta_service.simulation.wind_tunnel.scenario import load_scenario

HEADS: Final = (
    *("conversions", "player", "campaigns", "in 10 %", "in 20 %", "median", "p90"),
    *("of best", "budget", "back after", "conv.", "other in 10 %"),
)
"""`of best`: conversions over a clairvoyant's; `back after`: share of the day after a step.

With two targets the errors are those of the target that is missed more; `other` is the shallow one.
"""
WORDS: Final = {
    "within_10": "share within 10 %",
    "within_20": "share within 20 %",
    "median_error": "median error",
    "over_clairvoyant": "conversions over clairvoyant",
    "budget_use": "mean budget use",
}


def shown(verdict: Verdict) -> Iterator[RenderableType]:
    """Give what to print, one after the other."""
    for scenario, rows in groupby(verdict.rows, key=lambda row: row.scenario):
        told = [(row, cells(row)) for row in rows]
        kept = [at for at in range(len(HEADS)) if any(texts[at] for _, texts in told)]
        title = f"{scenario}: {load_scenario(scenario).description}"
        table = Table(*(Column(HEADS[at], no_wrap=True) for at in kept), title=title)
        for row, texts in told:
            style = "bold" if row.player in OWN else None
            table.add_row(*(texts[at] for at in kept), style=style)
        yield table
    yield _targets(verdict.marks)
    for one in verdict.beaten:
        yield (
            f"{one.player} beats us in {one.scenario}, {one.bucket}: median error "
            f"{one.theirs.median_error:.3f} to our {one.ours.median_error:.3f}, of best "
            f"{one.theirs.over_clairvoyant:.3f} to our {one.ours.over_clairvoyant:.3f}"
        )
    yield "no baseline beats us in any bucket" if verdict.passed else "[red]beaten[/]"


def cells(row: Row) -> tuple[str, ...]:
    """Write a row's figures, in the order of HEADS."""
    line = row.line
    figures = (
        *(line.within_10, line.within_20, line.median_error, line.p90_error),
        *(line.over_clairvoyant, line.budget_use, line.recovery_share),
    )
    after = "" if np.isnan(line.recovery_conversions) else f"{line.recovery_conversions:.0f}"
    told = (_figure(one) for one in figures)
    return (
        line.bucket,
        row.player,
        str(line.campaigns),
        *told,
        after,
        _figure(row.other_within_10),
    )


def mark_cells(mark: Mark) -> tuple[str, ...]:
    """Write a target beside what was found."""
    sign = "at most" if mark.at_most else "at least"
    return (
        *(mark.scenario, mark.bucket, WORDS.get(mark.what, mark.what)),
        *(f"{sign} {mark.target:g}", f"{mark.found:.3f}", "met" if mark.met else "missed"),
    )


def _targets(marks: list[Mark]) -> Table:
    table = Table("scenario", "conversions", "figure", "target", "found", "", title="targets")
    for mark in marks:
        table.add_row(*mark_cells(mark), style=None if mark.met else "yellow")
    return table


def _figure(value: float) -> str:
    return "" if np.isnan(value) else "never" if np.isinf(value) else f"{value:.3f}"
