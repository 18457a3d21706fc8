"""From an event to what attribution counts of it: ids become keyed hashes, tags are read.

A request is named without its channel: apps that were opened by an ad know the one, not the other.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Final

from rta_service.device_key import KeyRing
from rta_service.domain.attribution import (
    HOUR_MS,
    NANOS,
    Conversion,
    CostRow,
    Fact,
    Place,
    Refund,
    Touch,
    TouchKind,
)
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening
from rta_service.domain.tag import Tag, strategy_mark
from rta_service.nearline.attribution.goals import GOALS

ReadTag = Callable[[str], Tag | None]
"""Gives None for what is no tag of ours: such text names nothing."""
NameStrategy = Callable[[int], str]
"""From a strategy's mark to its id."""

_TOUCHES: Final = {
    Event.AD_WIN: TouchKind.WIN,
    Event.AD_EXPOSURE: TouchKind.EXPOSURE,
    Event.AD_CLICK: TouchKind.CLICK,
}
_SIGN: Final = 1 << 63
_ALL: Final = 1 << 64


def marked(mark: int) -> str:
    """Name a strategy by its mark, where nobody knows its id."""
    return f"#{mark:06x}"


def naming(strategy_ids: Iterable[str]) -> NameStrategy:
    """Name strategies by their ids, as far as these are theirs."""
    names = {strategy_mark(strategy_id): strategy_id for strategy_id in strategy_ids}
    return lambda mark: names.get(mark) or marked(mark)


def no_tags(_: str, /) -> None:
    """Read no tags: none is given to any platform."""


class FactReader:
    """Reads events under an advertiser's keys. Hashes are under the permanent key: conversions
    come for weeks, and the pepper may rotate meanwhile."""

    def __init__(
        self, keys: KeyRing, read_tag: ReadTag = no_tags, name_strategy: NameStrategy = marked
    ) -> None:
        self._keys = keys
        self._read_tag = read_tag
        self._name_strategy = name_strategy
        self._event = blake2b(digest_size=8, key=keys.experiment_key, person=b"rta-event")
        self._tag = blake2b(digest_size=8, key=keys.experiment_key, person=b"rta-tag-name")
        self._order = blake2b(digest_size=8, key=keys.experiment_key, person=b"rta-order")

    def read(self, happening: Happening) -> Fact | None:
        """Say what attribution counts of an event; None for what it does not count."""
        event = happening.event
        kind = _TOUCHES.get(event)
        if kind is not None:
            return self._touch(kind, happening)
        goal = happening.step if event is Event.CONVERSION else GOALS.get(event)
        if goal:
            return self._conversion(goal, happening)
        key = self._key(self._event, happening.event_id)
        if event is Event.COST_REPORT:
            return CostRow(happening.ts_ms, key, _reported(happening), happening.cost_micros)
        if event is Event.REFUND and happening.order_id:
            order = self._key(self._order, happening.order_id)
            return Refund(happening.ts_ms, key, order, happening.cents)
        return None

    def _touch(self, kind: TouchKind, happening: Happening) -> Touch:
        tag = self._read_tag(happening.tag) if happening.tag else None
        pcvr = tag.pcvr if tag is not None else None
        place = _stated(happening)
        return Touch(
            happening.ts_ms,
            self._key(self._event, happening.event_id),
            kind,
            place if tag is None else self._told(place, tag),
            self._persons(happening),
            self._names(happening, tag),
            happening.cost_micros,
            pcvr is not None,
            round(pcvr.register * NANOS) if pcvr is not None else 0,
            round(pcvr.trade * NANOS) if pcvr is not None else 0,
        )

    def _conversion(self, goal: str, happening: Happening) -> Conversion:
        tag = self._read_tag(happening.tag) if happening.tag else None
        place = _stated(happening)
        told, told_ms = None, 0
        if tag is not None:
            told_ms = tag.decided_ms
            told = self._told(place._replace(hour=told_ms // HOUR_MS), tag)
        return Conversion(
            happening.ts_ms,
            self._key(self._event, happening.event_id),
            goal,
            place,
            self._persons(happening),
            self._names(happening, tag),
            happening.cents,
            self._key(self._order, happening.order_id) if happening.order_id else 0,
            told,
            told_ms,
        )

    def _told(self, place: Place, tag: Tag) -> Place:
        """Add what a tag tells; a strategy that the event names itself stays."""
        strategy = place.strategy or self._name_strategy(tag.strategy)
        return place._replace(strategy=strategy, arm=tag.arm.value, release=f"{tag.release:08x}")

    def _persons(self, happening: Happening) -> tuple[int, ...]:
        person_key = self._keys.person_key
        found = {person_key(None, md5) for md5 in happening.device_md5s}
        if happening.user_id:
            found.add(person_key(happening.user_id, ""))
        return tuple(map(_signed, found))

    def _names(self, happening: Happening, tag: Tag | None) -> tuple[int, ...]:
        found = []
        if happening.request_id:
            found.append(_signed(self._keys.request_tag("", happening.request_id)))
        if tag is not None:
            found.append(self._key(self._tag, happening.tag))
        return tuple(found)

    def _key(self, keyed: "blake2b", text: str) -> int:
        hasher = keyed.copy()
        hasher.update(text.encode())
        return int.from_bytes(hasher.digest(), "little", signed=True)


def _stated(happening: Happening) -> Place:
    return Place(
        happening.ts_ms // HOUR_MS,
        happening.channel,
        happening.strategy_id,
        happening.campaign_id,
    )


def _reported(happening: Happening) -> Place:
    """A report of a strategy is about the strategy, whatever campaign it names besides."""
    place = _stated(happening)
    return place._replace(campaign="") if place.strategy else place


def _signed(hashed: int) -> int:
    """Give the same 64 bits as files hold them."""
    return hashed - _ALL if hashed >= _SIGN else hashed
