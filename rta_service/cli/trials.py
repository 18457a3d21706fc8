"""`rta models outcomes` and `rta models autopilot`: what trials are judged by, and who moves them."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec
import typer

from rta_service import wiring
from rta_service.cli.app import stdout
from rta_service.cli.desk import instant, me
from rta_service.cli.models import models_app
from rta_service.cli.options import AsJson, DataDir, RedisUrl, Why, existing, settings_of, who
from rta_service.cli.release import print_json
from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import InvalidInput
from rta_service.releasing.autopilot_run import Autopilot, Status
from rta_service.releasing.outcome_lines import Fate
from rta_service.releasing.outcomes import Outcomes

_SHOWN_LINES: Final = 20


class Wish(StrEnum):
    """What to do with the autopilot."""

    STATUS = "status"
    ON = "on"
    OFF = "off"


@models_app.command()
def outcomes(
    file: Annotated[Path, typer.Argument(help="JSON lines, one outcome a line; - is stdin.")],
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Bring matured labels, by which models on trial are judged.

    Exits with 0 when every line was taken, or known before, 1 when some were rejected.
    """
    settings = existing(settings_of(data, redis_url))
    try:
        with _opened(file) as lines, wiring.open_shelf(settings) as shelf:
            taken = Outcomes(lambda: shelf, wiring.key_ring(settings), SystemClock())
            fates = taken.take(lines, who())
    except OSError as error:
        raise InvalidInput(f"can't be read ({error.strerror})", str(file)) from error
    if as_json:
        print_json({"lines": [msgspec.to_builtins(fate) for fate in fates]})
    else:
        _show_fates(fates)
    raise typer.Exit(int(any(fate.fate == "rejected" for fate in fates)))


@models_app.command()
def autopilot(
    wish: Annotated[Wish, typer.Argument(help="status, on or off.")] = Wish.STATUS,
    why: Why = "",
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show the autopilot's last judgement, or switch it on or off.

    A switch holds on all hosts.
    """
    with _pilot(data, redis_url) as pilot:
        if wish is not Wish.STATUS:
            pilot.switch(me(), why, on=wish is Wish.ON)
        status = pilot.status()
    if as_json:
        print_json({"autopilot": msgspec.to_builtins(status)})
        return
    _show_status(status)


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    with file.open("rb") as lines:
        yield lines


@contextmanager
def _pilot(data: Path | None, redis_url: str | None) -> Iterator[Autopilot]:
    settings = existing(settings_of(data, redis_url))
    with wiring.open_shelf(settings) as shelf:
        yield wiring.autopilot(settings, lambda: shelf, SystemClock())


def _show_fates(fates: Sequence[Fate]) -> None:
    counts = {
        name: sum(fate.fate == name for fate in fates)
        for name in ("accepted", "duplicate", "rejected")
    }
    pairs = sum(fate.pairs > 0 for fate in fates)
    _say(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    _say(f"{pairs:,} of them judge between two models on the same row")
    rejected = [fate for fate in fates if fate.fate == "rejected"]
    for fate in rejected[:_SHOWN_LINES]:
        _say(f"line {fate.line}: {fate.field or 'line'} {fate.reason}")
    if len(rejected) > _SHOWN_LINES:
        _say(f"and {len(rejected) - _SHOWN_LINES:,} more")


def _show_status(status: Status) -> None:
    switch, last = status.switch, status.last
    by = f" since {instant(switch.at_ms)} by {switch.who}: {switch.why}" if switch.who else ""
    _say(f"{'on' if switch.on else 'off'}{by or ' by RTA_AUTOPILOT'}")
    _say(f"on trial: {', '.join(status.on_trial)}" if status.on_trial else "nothing is on trial")
    if last is None:
        _say("it has judged nothing yet")
        return
    _say(f"last judgement {instant(last.at_ms)}, of {last.release_id} by {last.place}: {last.done}")
    for name, one in last.models.items():
        _say(f"  {name}: {one.action}")
        for reason in one.reasons:
            _say(f"    {reason}")


def _say(text: str) -> None:
    stdout.print(text, markup=False, highlight=False, soft_wrap=True)
