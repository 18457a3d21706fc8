"""How cost control is shown to people: a line a goal, and all of one unit."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.table import Table

from rta_service.cli.app import stdout
from rta_service.cli.desk import instant, plain

Figures = Mapping[str, Any]

_NEAR, _FAIR = 0.1, 0.2
"""Errors of a cost that are shown as green, and as yellow."""
_LEFT: Final = ("unit", "goal", "why")


def show_units(units: Sequence[Figures]) -> None:
    """Print a line for each goal of each unit."""
    table = Table(title="cost for each conversion, in currency units", caption="* decides the bid")
    for column in (
        "unit", "goal", "target", "so far", "expected in the end", "multiplier", "budget", "why"
    ):  # fmt: skip
        table.add_column(column, overflow="fold", justify="left" if column in _LEFT else "right")
    for unit in units:
        for place, goal in enumerate(unit["goals"] or [{}]):
            table.add_row(*_line(unit, goal, is_first=place == 0))
    stdout.print(table)
    for unit in units:
        for warning in _warnings(unit):
            stdout.print(f"[yellow]{plain(unit['unit'])}: {plain(warning)}[/]", soft_wrap=True)


def show_unit(unit: Figures) -> None:
    """Print all of a unit."""
    show_units([unit])
    for words in _facts(unit):
        stdout.print(words, markup=False, highlight=False, soft_wrap=True)
    if not unit["moves"]:
        return
    table = Table("from (UTC)", "to", "goal", "multiplier", "why", title="how it moved")
    for move in unit["moves"]:
        multiplier = f"{move['from']:.2f} to {move['to']:.2f}"
        times = instant(move["since_ms"]), instant(move["until_ms"])[11:]
        table.add_row(*times, move["goal"], multiplier, move["why"])
    stdout.print(table)


def _line(unit: Figures, goal: Figures, *, is_first: bool) -> list[str]:
    name = plain(f"{unit['unit']}\n{_mode(unit)}") if is_first else ""
    budget = _budget(unit) if is_first else ""
    if not goal:
        return [name, "", "", "", "", "", budget, "nothing is known yet"]
    multiplier = f"{goal['multiplier']:.2f}"
    if unit["decides"] == goal["goal"]:
        multiplier += " *"
    return [
        name,
        goal["goal"],
        _target(goal),
        _so_far(goal),
        _expected(goal),
        multiplier,
        budget,
        _DECIDED[unit["decides"]] if unit["decides"] in _DECIDED else goal["why"],
    ]


def _mode(unit: Figures) -> str:
    if unit["mode"] == unit["mode_in_force"]:
        return str(unit["mode"])
    return f"{unit['mode']}, now as {unit['mode_in_force']}"


def _target(goal: Figures) -> str:
    if goal["roas"] is not None:
        return f"roas {goal['roas']:.2f}"
    return _money(goal["target_micros"])


def _so_far(goal: Figures) -> str:
    if goal["roas"] is None:
        return f"{_money(goal['arrived_cost_micros'])}\n{goal['arrived']:,.0f} came"
    cost = goal["cost_micros"] / 1e6
    return f"roas {goal['arrived'] / cost:.2f}" if cost > 0.0 else "none"


def _expected(goal: Figures) -> str:
    if goal["expected_cost_micros"] is None:
        return "unknown"
    low, high = goal["expected_cost_low_micros"], goal["expected_cost_high_micros"]
    words = f"{_money(goal['expected_cost_micros'])}\n"
    words += f"{_money(low)} to {'any' if high is None else _money(high)}"
    if goal["roas"] is not None:
        words = f"roas {1e6 / goal['expected_cost_micros']:.2f}"
    ratio = goal["cost_over_target"]
    if ratio is None:
        return words
    error = abs(ratio - 1.0)
    colour = "green" if error <= _NEAR else "yellow" if error <= _FAIR else "red"
    return f"{words}\n[{colour}]{ratio:.0%} of target[/]"


def _budget(unit: Figures) -> str:
    budget = unit["budget"]
    if budget is None:
        return "none"
    words = f"{_money(budget['spent_micros'])} of {_money(budget['daily_micros'])}"
    if (pace := budget["spent_over_planned"]) is not None:
        words += f"\n{pace:.0%} of plan"
    if (multiplier := budget["multiplier"]) is not None:
        words += f"\nx {multiplier:.2f}"
    return words + (" *" if unit["decides"] == "budget" else "")


def _warnings(unit: Figures) -> list[str]:
    found = [flag["why"] for flag in unit["flags"]]
    until = unit["guarantee_until_ms"]
    if until and unit["at_ms"] < until:
        found.append(f"weights are void until {instant(until)} UTC: answered as 1")
    if unit["stale"]:
        found.append(f"no step for {unit['age_s']:,.0f} s: bids fade to neutral")
    return found


def _facts(unit: Figures) -> list[str]:
    known = {"budget": "the budget's pace", "stopped": "a guard: no bids are made"}
    decides = known.get(unit["decides"], f"the cost of {unit['decides']} conversions")
    facts = [
        f"step {unit['version']:,} of {instant(unit['at_ms'])} UTC; what decides: {decides}",
        *(_factors(goal) for goal in unit["goals"]),
    ]
    if (budget := unit["budget"]) is not None:
        spent, planned = budget["spent_per_hour_micros"], budget["planned_per_hour_micros"]
        facts.append(f"spends {_money(spent)} an hour, {_money(planned)} planned from now on")
    if (shape := unit["shape"]) is not None:
        facts.append(_shape(shape))
    if (lately := unit["lately"]) is not None and lately["wanted"]:
        facts.append(_lately(lately))
    return facts


def _lately(lately: Figures) -> str:
    words = (
        f"lately: took part for {lately['takes_part']:.0%} of {lately['wanted']:,} wanted people; "
        f"{lately['not_worth']:,} were not worth it, for {lately['no_money']:,} there was no money, "
        f"{lately['capped']:,} bids were capped"
    )
    mean = lately["mean_weight"]
    return f"{words}; mean weight {mean:.2f}" if mean else words


_DECIDED: Final = {
    "budget": "the budget's pace decides the bid",
    "stopped": "a guard: no bids are made",
}


def _factors(goal: Figures) -> str:
    """Tell a goal's price: what a predicted conversion is bid with."""
    price = goal["target_micros"] * goal["scale"] * goal["multiplier"]
    return (
        f"{goal['goal']}: a predicted conversion is worth {_money(price)} = target "
        f"{_money(goal['target_micros'])} x scale {goal['scale']:.2f} x multiplier "
        f"{goal['multiplier']:.2f}; {goal['arrived']:,.0f} came of {goal['matured']:,.1f} due, "
        f"{goal['expected']:,.1f} expected in the end"
    )


def _shape(shape: Figures) -> str:
    if not shape["takes_part"]:
        return "takes part for nobody"
    least = f"takes part from a worth of {shape['least_worth']:.3g} on"
    cells = ", ".join(f"{cell} from {worth:.3g}" for cell, worth in shape["least_by_cell"].items())
    kept = f" ({cells}, to keep their shares)" if cells else ""
    return f"{least}{kept}; a worth of {shape['mean_worth']:.3g} is a weight of 1"


def _money(micros: float | None) -> str:
    return "none" if micros is None else f"{micros / 1e6:,.2f}"
