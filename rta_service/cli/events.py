"""`rta events`: what comes back, sent, looked at and sent again."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
import typer
from rich.table import Table

from rta_service import wiring
from rta_service.cli.app import app, counting, progress, stderr, stdout
from rta_service.cli.options import AsJson, DataDir, RedisUrl, now_ms, settings_of
from rta_service.cli.release import print_json
from rta_service.config import Settings
from rta_service.domain.errors import InvalidInput
from rta_service.domain.receipt import Fate, Receipt

if TYPE_CHECKING:
    from rta_service.domain.attribution import Cell
    from rta_service.domain.sealing import Sealer
    from rta_service.stores.event_log import Entry
    from rta_service.wiring_events import Events

events_app = typer.Typer(help="What comes back: events, costs, conversions.", no_args_is_help=True)
app.add_typer(events_app, name="events")

_Result = TypeVar("_Result")

_SHOWN: Final = 20
"""Rejected lines that are printed one by one."""
_SHOWN_GOALS: Final = ("register", "trade")
_POLL_S: Final = 0.5
_PAGE: Final = 1_000


def _with_events(settings: Settings, work: Callable[["Events"], Awaitable[_Result]]) -> _Result:
    """Open the log, do something with it, and close it."""
    from rta_service import wiring_events

    async def opened(url: str) -> _Result:
        async with wiring_events.open_events(settings, url) as events:
            return await work(events)

    with wiring.store_url(settings) as url:
        return asyncio.run(opened(url))


@events_app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="Events as JSON lines.")],
    url: Annotated[
        str | None, typer.Option(help="Ingest port; this host's unless told otherwise.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Token of a sender; this data folder's own if left out.")
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to go on trying when nothing is acknowledged.")
    ] = 60.0,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Send a file of events, any number of times: what was kept before is a duplicate.

    Exits with 0 when every line was kept, 1 when some were rejected, 3 when nothing was
    acknowledged for too long: send the file again.
    """
    from rta_service.feedback.sending import EventSender, Port, parts_of

    if not file.is_file():
        raise InvalidInput("is no file", str(file))
    settings = settings_of(data, None)
    token = wiring.secret(settings, "control_token").decode()
    if token_file is not None:
        token = token_file.read_text().strip()
    port = Port(url or f"http://127.0.0.1:{settings.ingest_port}", token, patience)
    total, rejected = Counter[str](), list[dict[str, Any]]()
    with file.open("rb") as lines, EventSender(port) as sender, progress(quiet=as_json) as bars:
        bar, size, sent = counting(bars, "sending bytes"), file.stat().st_size, 0
        for part in parts_of(lines):
            receipt = sender.send(part.lines)
            total.update({fate: getattr(receipt, fate) for fate in Fate})
            rejected += _rejected(receipt, part.first)[: _SHOWN - len(rejected)]
            sent += sum(map(len, part.lines)) + len(part.lines)
            bar(min(sent, size), size)
    _show_fates(total, rejected, as_json=as_json)
    raise typer.Exit(1 if total[Fate.REJECTED] else 0)


def _rejected(receipt: Receipt, first: int) -> list[dict[str, Any]]:
    return [
        {"line": first + one.line - 1, "field": one.field, "reason": one.reason}
        for one in receipt.lines
        if one.fate is Fate.REJECTED
    ]


def _show_fates(total: Counter[str], rejected: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json({**{fate.value: total[fate] for fate in Fate}, "first_rejected": rejected})
        return
    for one in rejected:
        stdout.print(f"line {one['line']}: {one['field']} {one['reason']}", markup=False)
    stdout.print(", ".join(f"{total[fate]:,} {fate.value}" for fate in Fate), highlight=False)


@events_app.command()
def tail(
    count: Annotated[int, typer.Option("--count", "-n", min=0, max=10_000)] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show the last accepted events, and those to come; devices only as their keyed hashes.

    Events that every consumer has done leave the log within seconds, so an idle service shows few.
    """
    settings = settings_of(data, redis_url)
    keys = wiring.key_ring(settings)

    def show(entry: "Entry", sealer: "Sealer") -> None:
        found = _described(entry, sealer, keys.device_key)
        if as_json:
            typer.echo(msgspec.json.encode(found).decode())
        else:
            typer.echo("  ".join(f"{k}={v}" for k, v in found.items() if v))

    async def work(events: "Events") -> None:
        newest = await events.log.latest(max(count, 1))
        for entry in newest[-count:] if count else ():
            show(entry, events.sealer)
        last = newest[-1].entry_id if newest else "0"
        while follow:
            for entry in await events.log.after(last, _PAGE):
                show(entry, events.sealer)
                last = entry.entry_id
            await asyncio.sleep(_POLL_S)

    with suppress(KeyboardInterrupt):
        _with_events(settings, work)


def _described(
    entry: "Entry", sealer: "Sealer", device_key: Callable[[str], bytes]
) -> dict[str, Any]:
    """Say what an event is, without saying whom it is about."""
    from rta_service.domain.happening import Happening
    from rta_service.domain.sealing import from_bytes
    from rta_service.stores.poison import addressed

    group, body = addressed(entry.body)
    facts: dict[str, Any] = {"entry": entry.entry_id, "for": group}
    try:
        happening: Happening = sealer.unseal(from_bytes(body))
    except InvalidInput as error:
        return {**facts, "unreadable": str(error)}
    told = {
        name: getattr(happening, name)
        for name in Happening.__struct_fields__
        if name not in ("device_md5s", "user_id", "ts_ms")
    }
    when = datetime.fromtimestamp(happening.ts_ms / 1000, UTC)
    devices = ",".join(device_key(md5).hex() for md5 in happening.device_md5s)
    return {**facts, "at": when.isoformat(timespec="milliseconds"), **told, "devices": devices}


@events_app.command()
def stats(data: DataDir = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Count what was accepted, what waits for whom, and what was set aside."""
    from rta_service.wiring_events import GROUPS

    async def work(events: "Events") -> dict[str, Any]:
        backlogs = {name: await events.log.backlog(name) for name in GROUPS}
        since = {name: await events.log.waiting_since_ms(name) for name in GROUPS}
        return {
            "counts": await events.log.counts(),
            "groups": {
                name: {**backlog._asdict(), "waiting_since_ms": since[name]}
                for name, backlog in backlogs.items()
            },
            "poisoned": await events.poison.count(),
        }

    found = _with_events(settings_of(data, redis_url), work)
    if as_json:
        print_json(found)
        return
    table = Table("", "events")
    for fate, count in sorted(found["counts"].items()):
        table.add_row(fate, f"{count:,}")
    table.add_row("set aside", f"{found['poisoned']:,}")
    stdout.print(table)
    groups = Table("group", "not read yet", "being done", "oldest (UTC)")
    for name, group in found["groups"].items():
        waiting = _instant(group["waiting_since_ms"])
        groups.add_row(name, f"{group['unread']:,}", f"{group['unacknowledged']:,}", waiting)
    stdout.print(groups)


def _instant(ms: int) -> str:
    if not ms:
        return ""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(" ", timespec="seconds")


@events_app.command()
def poison(
    take_back: Annotated[
        bool, typer.Option("--replay", help="Give them all to their groups once more.")
    ] = False,
    drop: Annotated[str | None, typer.Option(metavar="ID", help="Give one up for good.")] = None,
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """List the events that a group could not do, with the reason; replay or drop them."""

    async def work(events: "Events") -> dict[str, Any]:
        if drop is not None:
            return {"dropped": await events.poison.drop(drop)}
        waiting = await events.poison.list(_PAGE)
        if take_back:
            taken = [await events.poison.take_back(one.poison_id) for one in waiting]
            return {"replayed": sum(taken)}
        shown = [
            {"id": p.poison_id, "group": p.group, "entry": p.entry_id, "reason": p.reason}
            for p in waiting
        ]
        return {"poisoned": shown}

    found = _with_events(settings_of(data, redis_url), work)
    if as_json:
        print_json(found)
        return
    if "replayed" in found:
        stdout.print(
            f"replayed {found['replayed']}: what fails again is here in some seconds, by another id"
        )
        return
    if "dropped" in found:
        stdout.print("dropped" if found["dropped"] else "no such event waits here")
        return
    table = Table("id", "group", "event", "reason")
    for one in found["poisoned"]:
        table.add_row(*one.values())
    stdout.print(table if table.row_count else "nothing was set aside")


@events_app.command()
def effects(
    hours: Annotated[int, typer.Option(min=1, max=9_600, help="How far back.")] = 24,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show clicks, costs and conversions, by channel and strategy.

    A conversion counts in the hour of the click it is owed to.
    """
    from rta_service import wiring_events
    from rta_service.domain.attribution import HOUR_MS
    from rta_service.feedback.attributing import cells
    from rta_service.stores.ledger import Ledger

    path, now = wiring_events.ledger_path(settings_of(data, None)), now_ms()
    if not path.is_file():
        raise InvalidInput("no events were attributed here yet", str(path))
    with Ledger(path, is_reader=True) as ledger:
        found = cells(ledger, now - hours * HOUR_MS, now + HOUR_MS)
    if as_json:
        shown = [{**msgspec.to_builtins(c), "place": c.place._asdict()} for c in found]
        print_json({"cells": shown})
        return
    table = Table(
        *("channel", "strategy", "shown", "clicks", "wins", "cost"),
        *("registered", "reg. predicted", "traded", "trades predicted", "paid"),
        caption="predictions are of clicks that came with their tag",
    )
    for (channel, strategy), row in sorted(_sums(found).items()):
        table.add_row(channel, strategy, *(f"{value:,.6g}" for value in row))
    stdout.print(table)
    others = Counter[str]()
    for cell in found:
        others.update({goal: sums.conversions for goal, sums in cell.goals.items()})
    told = (
        f"{goal} {count:,}" for goal, count in sorted(others.items()) if goal not in _SHOWN_GOALS
    )
    stdout.print("other goals: " + (", ".join(told) or "none"), highlight=False)


def _sums(found: "Sequence[Cell]") -> dict[tuple[str, str], list[float]]:
    """Add cells up by channel and strategy."""
    sums: dict[tuple[str, str], list[float]] = {}
    for cell in found:
        register, trade = cell.goals.get("register"), cell.goals.get("trade")
        row = [
            *(cell.exposures, cell.clicks, cell.wins, cell.cost_micros / 1e6),
            *(register.conversions if register else 0, cell.register_sum),
            *(trade.conversions if trade else 0, cell.trade_sum, cell.value_cents / 100),
        ]
        key = cell.place.channel or "none", cell.place.strategy or "none"
        sums[key] = [a + b for a, b in zip(sums.get(key, [0.0] * len(row)), row, strict=True)]
    return sums


@events_app.command()
def link(
    platform: Annotated[str, typer.Argument(help="tencent, json, ...")],
    event: Annotated[str, typer.Argument(help="ad_exposure, ad_click or ad_win.")],
    base: Annotated[
        str, typer.Option("--base", help="How platforms reach the ingest port: https://...")
    ],
    strategy: Annotated[str, typer.Option(help="Of ours, that the campaign is bound to.")] = "",
    campaign: Annotated[str, typer.Option(help="The platform's id of the campaign.")] = "",
    currency: Annotated[str, typer.Option(help="Of the prices that are filled in.")] = "",
    need: Annotated[
        list[str] | None,
        typer.Option(help="Parameter without which a notice is refused, such as tag; repeatable."),
    ] = None,
    data: DataDir = None,
    redis_url: RedisUrl = None,
) -> None:
    """Print the signed link to enter at a platform for its notices of one event."""
    from rta_service import wiring_events

    settings = settings_of(data, redis_url)
    needed = ",".join(dict.fromkeys(",".join(need or ()).split(",")))
    says = {"strategy": strategy, "campaign": campaign, "currency": currency, "need": needed}
    typer.echo(wiring_events.links(settings).make(base, platform, event, says))
    if strategy and strategy not in (known := wiring_events.known_strategies(settings)):
        listed = ", ".join(sorted(known)) or "none is published"
        stderr.print(f"warning: no strategy {strategy!r} decides here; {listed}", markup=False)
