"""Playing back what becomes of answers: the platforms' notices and the app's events, over HTTP."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx
import msgspec

from rta_service.demo.judging import Check
from rta_service.demo.platforms import Answer
from rta_service.demo.play import Played
from rta_service.device_key import canonical_md5
from rta_service.domain.attribution import HOUR_MS, Cell
from rta_service.domain.events import Event
from rta_service.feedback.sending import EventSender, Port, parts_of
from rta_service.nearline.tracking import Links
from rta_service.simulation.reactions import Reaction, Yes, react
from rta_service.simulation.traffic import SimulatedRequest

_SETTLED_S: Final = 30.0
_TWICE: Final = 500
"""Events that are sent a second time, as after a lost answer."""

Json = dict[str, Any]
ReadCells = Callable[[int, int], list[Cell]]
"""Gives what attribution knows of some time, in milliseconds."""


class Sent(NamedTuple):
    """What was told, and what the ingest port said to it."""

    reactions: Sequence[Reaction]
    accepted: int
    duplicate: int
    rejected: int
    notices: int
    """Clicks that were told by their link, and taken."""


def play_back(played: Played, port: Port, links: Links, now_ms: int, seed: int) -> Sent:
    """Tell of wins, exposures, clicks and conversions of the played answers."""
    reactions = list(react(_yes(played), seed))
    events = [event for number, one in enumerate(reactions) for event in _events(number, one)]
    lines = [msgspec.json.encode({**event, "ts_ms": now_ms}) for event in events]
    with EventSender(port) as sender:
        receipts = [sender.send(part.lines) for part in parts_of([*lines, *lines[:_TWICE]])]
    return Sent(
        reactions,
        sum(receipt.accepted for receipt in receipts),
        sum(receipt.duplicate for receipt in receipts),
        sum(receipt.rejected for receipt in receipts),
        _click(reactions, port, links, now_ms),
    )


def _yes(played: Played) -> list[Yes]:
    """Take each yes with the first strategy's tag: which of them wins is the platform's choice."""
    return [
        Yes(request, answer.tags[0])
        for request, answer in zip(played.requests, played.answers, strict=True)
        if isinstance(answer, Answer) and answer.participate and answer.tags and answer.tags[0]
    ]


def _events(number: int, reaction: Reaction) -> list[Json]:
    """Write what the advertiser's side knows of one won auction as columns of events."""
    request, tag = reaction.yes
    ids = [
        {"kind": i.kind, "form": i.form, "value": i.value}
        for i in request.ids
        if i.trusted and canonical_md5(i.kind, i.value, i.form)  # zeros are a withheld one
    ]
    ad = {"ids": ids, "channel": request.platform, "request_id": request.request_id, "tag": tag}
    cost = {"cost_micros": reaction.cost_micros, "currency": "CNY"}
    told: list[Json] = [
        {"event": Event.AD_WIN, **ad, **cost},
        {"event": Event.AD_EXPOSURE, **ad},
    ]
    if ids:  # the app knows the device, if anybody does, and nothing of any ad
        told += [{"event": Event.REGISTER, "ids": ids}] if reaction.registers else []
        money = {"cents": reaction.paid_cents, "currency": "CNY", "order_id": f"demo-{number}"}
        told += [{"event": Event.PAY, "ids": ids, **money}] if reaction.paid_cents else []
    return [{"event_id": f"demo-{number}-{one['event']}", **one} for one in told]


def _click(reactions: Sequence[Reaction], port: Port, links: Links, now_ms: int) -> int:
    """Follow the signed links as platforms do when somebody clicks; gives how many were taken."""
    templates = {
        name: links.make(port.url, name, Event.AD_CLICK, {"need": "tag"}) for name in links.tables
    }
    taken = 0
    with httpx.Client(timeout=10.0) as client:
        for number, one in enumerate(reactions):
            if one.is_click:
                platform = one.yes.request.platform
                macros = links.tables[platform].of(Event.AD_CLICK)
                url = _filled(templates[platform], macros, _values(number, one, now_ms))
                taken += client.get(url).status_code == httpx.codes.OK
    return taken


def _values(number: int, reaction: Reaction, now_ms: int) -> dict[str, str]:
    """Say what a platform can fill in."""
    request: SimulatedRequest = reaction.yes.request
    ids = {f"{i.kind}_{i.form}": i.value for i in request.ids if i.trusted}
    for name in ("imei_md5", "idfa_md5"):
        if name in ids:
            ids["device_md5"] = ids[name]  # what Tencent calls a MUID
    instants = {"ts_ms": str(now_ms), "ts_s": str(now_ms // 1000)}
    named = {"request": request.request_id, "tag": reaction.yes.tag, "notice": f"click-{number}"}
    return {**ids, **instants, **named}


def _filled(template: str, macros: dict[str, str], values: dict[str, str]) -> str:
    for name, macro in macros.items():
        if name in values:
            template = template.replace(f"{name}={macro}", f"{name}={quote(values[name])}")
    return template


def settled(sent: Sent, read_cells: ReadCells, now_ms: int) -> list[Cell]:
    """Wait until attribution has counted everything, and give what it knows."""
    end_s = time.monotonic() + _SETTLED_S
    while True:
        found = read_cells(now_ms - 24 * HOUR_MS, now_ms + 2 * HOUR_MS)
        conversions = sum(one.conversions for cell in found for one in cell.goals.values())
        wins, clicks = (sum(cell.wins for cell in found), sum(cell.clicks for cell in found))
        done = wins == len(sent.reactions) and clicks == sent.notices and conversions
        if done or time.monotonic() > end_s:
            return found
        time.sleep(0.1)


def checks_of(sent: Sent, found: Sequence[Cell]) -> list[Check]:
    """Check that what was told was counted, once."""
    wins = sum(cell.wins for cell in found)
    clicks = sum(cell.clicks for cell in found)
    cost = sum(cell.cost_micros for cell in found)
    paid = sum(one.cost_micros for one in sent.reactions)
    clicked = sum(one.is_click for one in sent.reactions)
    return [
        Check("no event was rejected", sent.rejected == 0, f"{sent.rejected} were"),
        Check(
            "every win was counted once",
            wins == len(sent.reactions),
            f"{wins} of {len(sent.reactions)}",
        ),
        Check(
            "every click by a link was counted once", clicks == clicked, f"{clicks} of {clicked}"
        ),
        Check("costs add up to the micro", cost == paid, f"{cost} of {paid}"),
    ]


def document_of(sent: Sent, found: Sequence[Cell]) -> Json:
    """Say what came back, by strategy."""
    strategies: dict[str, dict[str, float]] = {}
    for cell in found:
        row = strategies.setdefault(cell.place.strategy or "none", dict.fromkeys(_COLUMNS, 0.0))
        register, trade = (cell.goals.get(goal) for goal in ("register", "trade"))
        counted = (
            cell.wins,
            cell.clicks,
            cell.cost_micros / 1e6,
            register.conversions if register else 0,
            cell.register_sum,
            trade.conversions if trade else 0,
            cell.trade_sum,
            cell.value_cents / 100,
        )
        for name, value in zip(_COLUMNS, counted, strict=True):
            row[name] += value
    return {
        "events": {
            "accepted": sent.accepted + sent.notices,
            "duplicate": sent.duplicate,
            "rejected": sent.rejected,
        },
        "strategies": strategies,
    }


_COLUMNS: Final = (
    *("wins", "clicks", "cost", "registered", "as predicted", "traded", "as foreseen", "paid"),
)
