"""From what senders and platforms send to the log: every line meets a fate, and nothing that is
acknowledged can be lost.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from rta_service.domain.clock import Clock
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.happening import Happening, Rejection
from rta_service.domain.receipt import Fate, LineFate, Receipt
from rta_service.domain.sealing import Sealer, to_bytes
from rta_service.nearline.reading import ReadingRules, read_line
from rta_service.nearline.tracking import Links
from rta_service.stores.event_log import Draft

_LINES_AT_ONCE: Final = 64
"""Read before others get their turn: two milliseconds, and 20 for the longest lines there are."""
_NOTICES_AT_ONCE: Final = 500


class Log(Protocol):
    """Keeps events."""

    async def append(self, events: Sequence[Draft]) -> list[bool]:
        """Return once a batch is durable: which were new. Raises StoreUnavailable."""


def _nobody(_: Receipt) -> None:
    """Count for nobody."""


@dataclass(slots=True)
class Intake:
    """Takes events in; for one event loop."""

    log: Log
    sealer: Sealer
    """Of this loop's thread alone."""
    rules: ReadingRules
    """`now_ms` is set anew for each batch."""
    clock: Clock
    links: Links
    count: Callable[[Receipt], None] = _nobody
    """Told of every receipt, for metrics."""
    patience_s: float = 10.0
    """For the log to keep a batch."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _gathering: "_Gathering" = field(init=False)

    def __post_init__(self) -> None:
        self._gathering = _Gathering(self._append)

    async def take(self, body: bytes) -> Receipt:
        """Take lines of JSON: all that count are durable when this returns.

        Raises StoreUnavailable where the log can't keep them: nothing of the batch is acknowledged
        then, and it may be sent again. The caller bounds lines and bytes.
        """
        batch = _Batch()
        rules = self._rules()
        async with self._in_turn():
            lines = body.split(b"\n")
        for first in range(0, len(lines), _LINES_AT_ONCE):
            async with self._in_turn():
                for number, line in enumerate(lines[first : first + _LINES_AT_ONCE], first + 1):
                    if line and not line.isspace():
                        batch.add(number, self._read(line, rules), self.sealer)
        new = await self._append(batch.drafts)
        async with self._in_turn():
            return self._receipt(batch, new)

    async def notice(self, platform: str, event: str, query: bytes) -> LineFate:
        """Take one notice of a platform by its link; raises StoreUnavailable as `take` does."""
        batch = _Batch()
        batch.add(1, self.links.read(platform, event, query, self._rules()), self.sealer)
        new = [await self._gathering.add(draft) for draft in batch.drafts]
        return self._receipt(batch, new).lines[0]

    def _read(self, line: bytes, rules: ReadingRules) -> Happening | Rejection:
        """Read a line; a tag that is none of ours would name nothing."""
        found = read_line(line, rules)
        if isinstance(found, Rejection) or not found.tag:
            return found
        return self.links.fault_of_tag(found, rules) or found

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Let one batch work, however many there are, and then everybody else."""
        async with self._turn:
            yield
            await asyncio.sleep(0)

    def _rules(self) -> ReadingRules:
        return replace(self.rules, now_ms=self.clock.now_ms())

    async def _append(self, drafts: Sequence[Draft]) -> list[bool]:
        try:
            async with asyncio.timeout(self.patience_s):
                return await self.log.append(drafts)
        except TimeoutError as error:
            reason = f"the log did not keep events within {self.patience_s:g} s"
            raise StoreUnavailable(reason) from error

    def _receipt(self, batch: "_Batch", new: Sequence[bool]) -> Receipt:
        receipt = batch.receipt(new)
        self.count(receipt)
        return receipt


@dataclass(slots=True)
class _Batch:
    """A batch on its way: what goes to the log, and what is known of the other lines."""

    drafts: list[Draft] = field(default_factory=list)
    _numbers: list[int] = field(default_factory=list)
    _rejected: list[LineFate] = field(default_factory=list)
    _instants: dict[str, int] = field(default_factory=dict)

    def add(self, number: int, found: Happening | Rejection, sealer: Sealer) -> None:
        """Add what was read of a line."""
        if isinstance(found, Rejection):
            fate = LineFate(number, Fate.REJECTED, found.field, found.rule, found.reason)
            self._rejected.append(fate)
            return
        # copies are looked for in their day: one that says another instant is told by the first's
        ts_ms = self._instants.setdefault(found.event_id, found.ts_ms)
        self.drafts.append(Draft(found.event_id, ts_ms, to_bytes(sealer.seal(found))))
        self._numbers.append(number)

    def receipt(self, new: Sequence[bool]) -> Receipt:
        """Give every line's fate, now that the log has said which events were new."""
        kept = [
            LineFate(number, Fate.ACCEPTED if is_new else Fate.DUPLICATE)
            for number, is_new in zip(self._numbers, new, strict=True)
        ]
        lines = kept
        if self._rejected:
            lines = sorted(kept + self._rejected, key=lambda fate: fate.line)
        accepted = sum(new)
        return Receipt(accepted, len(kept) - accepted, len(self._rejected), tuple(lines))


class _Gathering:
    """Lets notices that come while others are being kept go to the log together."""

    def __init__(self, append: Callable[[Sequence[Draft]], Awaitable[list[bool]]]) -> None:
        self._append = append
        self._waiting: deque[tuple[Draft, asyncio.Future[bool]]] = deque()
        self._work: asyncio.Task[None] | None = None

    async def add(self, draft: Draft) -> bool:
        """Wait until an event is durable, and tell whether it was new."""
        kept: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((draft, kept))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._run())
        return await kept

    async def _run(self) -> None:
        while self._waiting:
            count = min(len(self._waiting), _NOTICES_AT_ONCE)
            taken = [self._waiting.popleft() for _ in range(count)]
            try:
                new = await self._append([draft for draft, _ in taken])
            except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
                _fail([*taken, *self._waiting], error)
                self._waiting.clear()
                return
            for (_, kept), is_new in zip(taken, new, strict=True):
                if not kept.done():
                    kept.set_result(is_new)


def _fail(waiting: Iterable[tuple[Draft, asyncio.Future[bool]]], error: Exception) -> None:
    """Tell all who wait, also those whose turn had not come: so nobody waits for two failures."""
    for _, kept in waiting:
        if not kept.done():
            kept.set_exception(error)
