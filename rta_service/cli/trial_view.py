"""How a version's trial is shown to people: counts, guards, and what the autopilot would do."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from rta_service.cli.app import stdout
from rta_service.cli.desk import plain
from rta_service.domain.rollout import percent

Figures = Mapping[str, Any]


def show_trial(trial: Figures) -> None:
    """Print what is known of a version on trial; the same figures are in --json."""
    share = f", {percent(trial['share_millionths'])} of people" if trial["share_millionths"] else ""
    table = Table(
        "", "candidate", "live", title=f"in {trial['phase']}{share}, against {trial['against']}"
    )
    for row in _rows(trial):
        table.add_row(*row)
    stdout.print(table)
    if trial["guards"]:
        stdout.print(_guards(trial))
    autopilot = trial["autopilot"]
    word = {"roll_back": "roll back or stop"}.get(autopilot["action"], autopilot["action"])
    reasons = "; ".join(autopilot["reasons"])
    stdout.print(f"the autopilot would {word}: {reasons}", markup=False, soft_wrap=True)


def _rows(trial: Figures) -> list[tuple[str, str, str]]:
    sampled, outcomes = trial["sampled"], trial["outcomes"]
    one, other = trial["arms"]["candidate"], trial["arms"]["live"]
    rows = [
        ("sampled rows that both scored", f"{sampled['rows']:,}", ""),
        ("mean score over the live one's", _figure(sampled["mean_ratio"]), ""),
        ("scores that are no probability", f"{sampled['unsound']:,}", ""),
        ("outcomes that both scored", f"{outcomes['rows']:,}", ""),
        ("of them positive", f"{outcomes['positives']:,}", ""),
        ("promised over come", _figure(outcomes["candidate_pcoc"]), _figure(outcomes["live_pcoc"])),
    ]
    for words, name in (("decisions seen", "decided"), ("their outcomes", "matured")):
        rows.append((f"its arm: {words}", f"{one[name]:,}", f"{other[name]:,}"))
    rows.append(("its arm: promised over come", _figure(one["pcoc"]), _figure(other["pcoc"])))
    people = trial["people"]
    return [*rows, ("its arm: people met", f"{people['candidate']:,}", f"{people['live']:,}")]


def _guards(trial: Figures) -> Table:
    table = Table()
    for column in ("guard", "says", "figure", "surely within", "allowed", "words"):
        table.add_column(column, overflow="fold", min_width=14 if column == "guard" else None)
    colours = {"clear": "green", "alarm": "bold red", "unsure": "yellow"}
    for one in trial["guards"]:
        state = f"[{colours[one['state']]}]{one['state']}[/]"
        found = _between(one["low"], one["high"])
        allowed = _between(one["allowed_low"], one["allowed_high"])
        table.add_row(
            one["guard"], state, _figure(one["figure"]), found, allowed, plain(one["words"])
        )
    return table


def _between(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f"{_figure(low) or 'any'} to {_figure(high) or 'any'}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
