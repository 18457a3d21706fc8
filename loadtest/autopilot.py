"""Simulated candidates on trial: what the autopilot stops, what it lets live, and how soon.

    python -m loadtest.autopilot [--candidates 10] [--seed 1] [--json]

Trains that many candidates of each bad kind and as many good ones as bad ones together, and lets
each run its whole trial against a live model. Bad ones should be stopped before they decide for 1 %
of people, good ones should go live.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, Literal

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtest.autopilot_trial import Fate, Scale, make_candidate, run_trial
from rta_service.nearline.autopilot.policy import Policy
from rta_service.simulation.candidates import BAD_KINDS, Crowd, CrowdOptions, Kind

_OF_A_KIND_IN_A_WORLD: Final = 2
"""Another crowd and another live model for every two candidates of each kind."""
_TABLE_WIDTH: Final = 140


@dataclass(frozen=True, slots=True)
class Options:
    """How many candidates, and how big the world is."""

    candidates: int = 10
    """Of each bad kind."""
    good: int = len(BAD_KINDS)
    """Good ones for each candidate of every bad kind."""
    seed: int = 1
    crowd: CrowdOptions = field(default_factory=CrowdOptions)
    scale: Scale = field(default_factory=Scale)
    policy: Policy = field(default_factory=Policy)


def run(options: Options, done: Callable[[], None] = lambda: None) -> list[Fate]:
    """Try all candidates, one after the other; `done` is called after each."""
    fates = []
    seeds = np.random.SeedSequence(options.seed)
    for kinds in _worlds(options):
        rng = np.random.default_rng(seeds.spawn(1)[0])
        crowd = Crowd(options.crowd, rng)
        live = make_candidate("live", Kind.GOOD, crowd, options.scale, rng)
        for number, kind in enumerate(kinds):
            candidate = make_candidate(f"{kind}-{number}", kind, crowd, options.scale, rng)
            models = (live, candidate)
            fates.append(run_trial(crowd, models, options.scale, options.policy, rng))
            done()
    return fates


def _worlds(options: Options) -> Iterator[list[Kind]]:
    """Give each world's candidates."""
    for start in range(0, options.candidates, _OF_A_KIND_IN_A_WORLD):
        each = min(_OF_A_KIND_IN_A_WORLD, options.candidates - start)
        yield [*BAD_KINDS] * each + [Kind.GOOD] * (each * options.good)


def count_candidates(options: Options) -> int:
    """How many candidates a run tries."""
    return options.candidates * (len(BAD_KINDS) + options.good)


def shares(fates: Sequence[Fate]) -> tuple[float, float]:
    """Give the share of bad ones stopped before 1 % of people, and of good ones stopped."""
    bad = [fate for fate in fates if fate.kind is not Kind.GOOD]
    good = [fate for fate in fates if fate.kind is Kind.GOOD]
    stopped = sum(fate.stopped_early for fate in bad)
    return stopped / len(bad), sum(fate.action == "roll_back" for fate in good) / len(good)


def table(fates: Sequence[Fate]) -> Table:
    """Lay the fates out for people, a row a kind."""
    bad, good = shares(fates)
    found = Table(title=f"bad stopped before 1 %: {bad:.1%}; good stopped: {good:.1%}")
    headings = ("kind", "tried", "stopped before 1 %", "stopped later", "went live", "undecided")
    for heading in (*headings, "days", "people decided for", "stopped by"):
        side: Literal["left", "right"] = "left" if heading in {"kind", "stopped by"} else "right"
        found.add_column(heading, justify=side)
    for kind in (*BAD_KINDS, Kind.GOOD):
        row = _row([fate for fate in fates if fate.kind is kind])
        if row:
            found.add_row(kind.value, *row)
    return found


def _row(fates: Sequence[Fate]) -> list[str]:
    """Count one kind's fates; days and people are the median and the most."""
    if not fates:
        return []
    stopped = [fate for fate in fates if fate.action == "roll_back"]
    early = sum(fate.stopped_early for fate in stopped)
    guards = Counter(fate.reasons[0].partition(":")[0] for fate in stopped)
    days = [fate.days for fate in fates]
    people = [fate.people for fate in fates]
    return [
        str(len(fates)),
        str(early),
        str(len(stopped) - early),
        str(sum(fate.action == "promote" for fate in fates)),
        str(sum(fate.action == "wait" for fate in fates)),
        f"{median(days):.1f} ({max(days):.1f})",
        f"{median(people):,.0f} ({max(people):,})",
        ", ".join(f"{guard} {count}" for guard, count in guards.most_common()),
    ]


def as_json(fates: Sequence[Fate]) -> dict[str, Any]:
    """Give all fates with the two shares as plain data."""
    bad, good = shares(fates)
    return {
        "bad_stopped_before_1_percent": bad,
        "good_stopped": good,
        "fates": msgspec.to_builtins(list(fates)),
    }


def main() -> None:
    """Run the trials, print."""
    parser = argparse.ArgumentParser(
        prog="loadtest.autopilot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--candidates", type=int, default=10, help="of each bad kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    options = Options(given.candidates, seed=given.seed)
    progress = Progress(console=Console(stderr=True))
    with progress:
        task = progress.add_task("candidates on trial", total=count_candidates(options))
        fates = run(options, lambda: progress.advance(task))
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(as_json(fates))).decode())
        return
    console = Console()
    console.width = max(console.width, _TABLE_WIDTH)
    console.print(table(fates))


if __name__ == "__main__":
    main()
