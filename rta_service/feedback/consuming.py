"""How a group of the log does its events: in order, each at least once, a bad one alone.

What was read and not acknowledged comes first, then what is new. Whatever fails for a while (the
store, a full disk) is tried again from what is not acknowledged; what fails by itself is set aside.
"""

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeVar

from rta_service.domain.errors import DegradedError, InvalidInput
from rta_service.domain.happening import Happening, SealedHappening
from rta_service.domain.sealing import Sealer, from_bytes, to_bytes
from rta_service.stores.event_log import Entry, EventLog
from rta_service.stores.poison import Aside, PoisonStore, addressed

CONSUMER: Final = "one"
"""The same in every process: what a dead one read is the next one's to go on with."""
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 5.0
MOST_IN_A_ROW: Final = 100
"""Events that fail one after the other; each further one costs a pause: is it our own fault?"""
_BEHIND: Final = 10
"""Full reads in a row after which a group takes all it can."""
_STEP_S: Final = 0.25
"""While resting, a lost lease is noticed this soon."""

_log: Final = logging.getLogger(__name__)
_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


class Taken(NamedTuple):
    """An event as a handler gets it."""

    entry_id: str
    """Its place in the log's order: `<milliseconds>-<number>`."""
    happening: Happening
    sealed: SealedHappening


class Handler(Protocol):
    """What a group does with its events."""

    def handle(self, entries: Sequence[Taken], /) -> None:
        """Do events, in the log's order, and return when their effect is kept. Blocks.

        Entries may come again, after a crash or a failure: those up to the handler's own cursor are
        to be skipped. What it raises decides: a DegradedError (StaleWriter, StoreUnavailable, which
        a full disk must become) brings the same entries again later; anything else is taken for
        the fault of one of the events, which is found and set aside.
        """


@dataclass(frozen=True, slots=True)
class GroupRules:
    """How much a group takes at a time."""

    batch: int = 2_000
    """Events read and acknowledged together, at most."""
    batch_bytes: int = 4_000_000
    """Of sealed events that are handled together; of a batch of long ones only a part is."""
    calm: int = 100
    """The same while the group keeps up, followed by a rest as long as the work: decisions use the
    same store, and a burst of ours made one in a hundred of them half as slow again."""
    block_ms: int = 250
    """How long one read waits for new events."""
    rest_s: float = 0.0
    """How long to let events gather after a batch that was not full."""
    leaves_store: bool = False
    """The effect is kept outside of the store, which must not forget, in a loss of power, events
    that it shows already: so it is made to keep what was read, before it is done."""


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group of the log and who does its events."""

    name: str
    handler: Handler
    rules: GroupRules = GroupRules()


@dataclass(frozen=True, slots=True)
class Source:
    """Where events come from, and where they go that can't be done."""

    log: EventLog
    poison: PoisonStore
    make_sealer: Callable[[], Sealer]
    """Each group unseals in a thread of its own."""
    is_mine: Callable[[], bool]
    """Whether this process is the one that consumes; asked before each part of a batch."""


@dataclass(slots=True)
class Progress:
    """How far a group has come in this process."""

    handled: int = 0
    """Entries done, those included that a crash brought again."""
    acknowledged: int = 0
    set_aside: int = 0
    trouble: str = ""
    """Why it does not go on; empty while it does."""


async def run_group(group: Group, source: Source, progress: Progress | None = None) -> None:
    """Do a group's events until the work is no longer ours; waits out whatever fails for a while.

    Cancelled, it ends when the handler has returned: nobody writes behind its back.
    """
    await _Run(group, source, progress or Progress()).until_lost()


@dataclass(slots=True)
class _Opened:
    """A part of a batch, unsealed."""

    taken: list[Taken] = field(default_factory=list)
    unreadable: list[Aside] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Taken back for another group: nothing to do here."""


class _Run:
    """One group at work."""

    def __init__(self, group: Group, source: Source, progress: Progress) -> None:
        self._name = group.name
        self._handler = group.handler
        self._rules = group.rules
        self._source = source
        self._sealer = source.make_sealer()
        self._progress = progress
        self._pause_s = FIRST_PAUSE_S
        self._failed_in_a_row = 0

    async def until_lost(self) -> None:
        """Do what waits, then what comes, and begin again whenever something fails."""
        while self._source.is_mine():
            try:
                await self._source.log.open_group(self._name)
                await self._do_unacknowledged()
                await self._do_new()
            except DegradedError as error:
                if not self._progress.trouble:
                    _log.warning("group %s waits: %s", self._name, error)
                self._progress.trouble = str(error)
                await self._rest(self._pause_s)
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    async def _do_unacknowledged(self) -> None:
        while self._source.is_mine():
            entries = await self._source.log.unacknowledged(self._name, CONSUMER, self._rules.batch)
            if not entries:
                return
            await self._do(entries)

    async def _do_new(self) -> None:
        rules, full_reads = self._rules, 0
        while self._source.is_mine():
            is_behind = full_reads >= _BEHIND
            count = rules.batch if is_behind else min(rules.calm, rules.batch)
            entries = await self._source.log.read(self._name, CONSUMER, count, rules.block_ms)
            began_s = time.monotonic()
            await self._do(entries)
            spent_s = time.monotonic() - began_s
            is_full = len(entries) == count
            full_reads = full_reads + 1 if is_full else 0
            if not is_full:
                await self._rest(rules.rest_s)
            if not is_behind:  # decisions have the store for as long as we had it
                await asyncio.sleep(min(spent_s, _STEP_S))

    async def _rest(self, seconds: float) -> None:
        steps, rest_s = divmod(seconds, _STEP_S)
        for _ in range(int(steps)):
            if not self._source.is_mine():
                return
            await asyncio.sleep(_STEP_S)
        await asyncio.sleep(rest_s)

    async def _do(self, entries: Sequence[Entry]) -> None:
        for part in _parts(entries, self._rules.batch_bytes):
            if not self._source.is_mine():
                return
            opened = await in_thread(self._open, part)
            await self._set_aside(opened.unreadable)
            await self._ack(opened.others)
            await self._settle()
            await self._handle(opened.taken)
        self._pause_s = FIRST_PAUSE_S
        self._progress.trouble = ""

    def _open(self, entries: Sequence[Entry]) -> _Opened:
        opened = _Opened()
        for entry in entries:
            group, body = addressed(entry.body)
            if group not in ("", self._name):
                opened.others.append(entry.entry_id)
                continue
            try:
                sealed = from_bytes(body)
                opened.taken.append(Taken(entry.entry_id, self._sealer.unseal(sealed), sealed))
            except InvalidInput as error:
                opened.unreadable.append(Aside(entry.entry_id, str(error), body))
        return opened

    async def _handle(self, taken: list[Taken]) -> None:
        """Do a part of a batch; what fails is halved until what fails is one event."""
        parts = [taken]
        while parts and self._source.is_mine():
            part = parts.pop()
            if not part:
                continue
            try:
                await in_thread(self._handler.handle, part)
            except DegradedError:
                raise
            except Exception as error:  # noqa: BLE001 - an event nobody thought of costs itself only; shown with its reason
                if len(part) == 1:
                    body = to_bytes(part[0].sealed)
                    await self._set_aside([Aside(part[0].entry_id, _reason(error), body)])
                    self._check_row(_reason(error))
                else:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
            else:
                self._failed_in_a_row = 0
                self._progress.handled += len(part)
                await self._ack([one.entry_id for one in part])

    def _check_row(self, reason: str) -> None:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= MOST_IN_A_ROW:
            raise DegradedError(
                f"{self._failed_in_a_row} events in a row could not be done and were set aside "
                f"({reason}); trying the next one after a pause"
            )

    async def _settle(self) -> None:
        if self._rules.leaves_store:
            await self._source.log.settle()

    async def _ack(self, entry_ids: Sequence[str]) -> None:
        self._progress.acknowledged += await self._source.log.ack(self._name, entry_ids)

    async def _set_aside(self, events: Sequence[Aside]) -> None:
        if not events:
            return
        self._progress.set_aside += await self._source.poison.set_aside(self._name, events)
        await self._settle()
        for event in events:
            _log.warning("group %s set %s aside: %s", self._name, event.entry_id, event.reason)


def _parts(entries: Sequence[Entry], most_bytes: int) -> Iterator[Sequence[Entry]]:
    """Cut a batch so that no part but one of a single event is heavier than told."""
    first = weight = 0
    for place, entry in enumerate(entries):
        weight += len(entry.body)
        if weight > most_bytes and place > first:
            yield entries[first:place]
            first, weight = place, len(entry.body)
    if entries:
        yield entries[first:]


def _reason(error: Exception) -> str:
    """Say what was raised and where, but not its text, which may quote the event."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"


async def in_thread(work: Callable[[_Given], _Result], given: _Given) -> _Result:
    """Do blocking work beside the loop; a cancellation waits for its end."""
    running = asyncio.ensure_future(asyncio.to_thread(work, given))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,))
        raise
