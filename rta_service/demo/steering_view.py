"""The steered strategy as one watches it: a table that grows by a line every few seconds.

`so far` is cost over what has arrived, `expected` over what will have once the late ones came.
"""

from math import exp
from typing import Final

from rich.table import Column, Table

from rta_service.demo.steering import Steered
from rta_service.domain.control import MICROS

_EVERY: Final = 5
_BAR: Final = 20
"""Characters; the target stands in the middle."""


def table_of(run: Steered) -> Table:
    """Show what each five seconds cost and brought, against the target."""
    target = run.target_micros
    title = (
        f"a strategy steered to {target / MICROS:.0f} a registration (|), every five seconds; bids are "
        "target x prediction x scale x multiplier"
    )
    table = Table(
        *("second", "won", "mean cpm", "came", "so far", "expected"),
        Column("", no_wrap=True, min_width=_BAR),
        *("scale", "multiplier", Column("why", no_wrap=True)),
        title=title,
    )
    for end in range(_EVERY, len(run.seconds) + 1, _EVERY):
        part = run.seconds[end - _EVERY : end]
        view = run.views[end - 1]
        standing = view.standings[0] if view and view.standings else None
        expected = standing.expected_cost_micros if standing else None
        table.add_row(
            str(end),
            f"{sum(one.won for one in part):,}",
            f"{sum(one.mean_cpm_micros for one in part) / len(part) / MICROS:,.0f}",
            str(sum(one.converted for one in part)),
            _money(run.cost_micros(end)),
            _money(expected),
            "" if expected is None else _bar(expected / target),
            "" if standing is None else f"{standing.scale:.2f}",
            "" if standing is None else f"{exp(standing.log_multiplier):.2f}",
            "" if standing is None else standing.reason.replace("_", " "),
        )
    return table


def _money(micros: float | None) -> str:
    return "" if micros is None else f"{micros / MICROS:.1f}"


def _bar(ratio: float) -> str:
    """Draw a cost over its target, from none to twice the target."""
    place = min(max(round(ratio * _BAR / 2), 0), _BAR - 1)
    line = ["·"] * _BAR
    line[_BAR // 2] = "|"
    line[place] = "█"
    return "".join(line)
