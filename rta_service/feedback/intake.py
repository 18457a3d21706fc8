"""From what senders and platforms send to the log: every line meets a fate, and nothing that is
acknowledged can be lost.
"""

import asyncio
from collections.abc import Callable, Sequence
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
"""Read before others get their turn: a millisecond or two, and 20 of the longest lines there are."""


class Log(Protocol):
    """Keeps events."""

    async def append(self, events: Sequence[Draft]) -> list[bool]:
        """Return once a batch is durable: which were new. Raises StoreUnavailable."""


def _nobody(_: Receipt) -> None:
    """Count for nobody."""


@dataclass(frozen=True, slots=True)
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

    async def take(self, body: bytes) -> Receipt:
        """Take lines of JSON: all that count are durable when this returns.

        Raises StoreUnavailable where the log can't keep them: nothing of the batch is acknowledged
        then, and it may be sent again. The caller bounds lines and bytes. Others get their turn
        every millisecond or two.
        """
        batch = _Batch()
        rules = self._rules()
        lines = body.split(b"\n")
        for first in range(0, len(lines), _LINES_AT_ONCE):
            for number, line in enumerate(lines[first : first + _LINES_AT_ONCE], first + 1):
                if line and not line.isspace():
                    batch.add(number, read_line(line, rules), self.sealer)
            await asyncio.sleep(0)
        return await self._keep(batch)

    async def notice(self, platform: str, event: str, query: bytes) -> LineFate:
        """Take one notice of a platform by its link; raises StoreUnavailable as `take` does."""
        batch = _Batch()
        batch.add(1, self.links.read(platform, event, query, self._rules()), self.sealer)
        receipt = await self._keep(batch)
        return receipt.lines[0]

    def _rules(self) -> ReadingRules:
        return replace(self.rules, now_ms=self.clock.now_ms())

    async def _keep(self, batch: "_Batch") -> Receipt:
        try:
            async with asyncio.timeout(self.patience_s):
                new = await self.log.append(batch.drafts)
        except TimeoutError as error:
            reason = f"the log did not keep the batch within {self.patience_s:g} s"
            raise StoreUnavailable(reason) from error
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
