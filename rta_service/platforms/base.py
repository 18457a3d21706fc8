"""What a platform's adapter is, and the one place that holds every adapter to its facts."""

import importlib.resources
import re
import sys
import tomllib
from dataclasses import dataclass
from math import isfinite
from typing import Final, Protocol

import msgspec

from rta_service.domain.decision import Bid, Decision, StrategyDecision
from rta_service.domain.errors import InvalidInput, InvalidRequest
from rta_service.domain.platform import BidKind, PlatformInfo
from rta_service.domain.reason import PARTICIPATING, ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.domain.tracking import FILLED, INSTANTS, TRACKED, MacroTable

MAX_IDS: Final = 32
"""More ids than any device has; every one of them costs a store read."""
MAX_REQUEST_ID: Final = 256
"""Characters; the id is echoed, so it bounds the answer too."""

FACTS_FILE: Final = "info.toml"
MACROS_FILE: Final = "tracking.toml"


class Adapter(Protocol):
    """A platform's words: bytes to a request, a decision to bytes. Pure, no I/O."""

    @property
    def info(self) -> PlatformInfo:
        """The facts from the platform's info.toml."""

    def parse(self, body: bytes) -> AdRequest:
        """Read the platform's bytes; raises InvalidRequest and nothing else."""

    def render(self, decision: Decision) -> bytes:
        """Write the platform's bytes; the decision already keeps to the facts."""

    def render_invalid(self, error: InvalidRequest) -> tuple[int, bytes]:
        """Give the HTTP status and body for a request that can't be read."""


def load_info(package: str) -> PlatformInfo:
    """Read a platform's facts from the info.toml in its package.

    Raises InvalidInput that names the file and the field.
    """
    place = f"{package}/{FACTS_FILE}"
    text = importlib.resources.files(package).joinpath(FACTS_FILE).read_text(encoding="utf-8")
    return read_info(text, place)


def read_info(text: str, place: str) -> PlatformInfo:
    """Read facts from TOML; `place` names their source in errors. Raises InvalidInput."""
    try:
        info = msgspec.convert(tomllib.loads(text), PlatformInfo)
        re.compile(info.target_id_pattern)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, re.error) as exc:
        raise InvalidInput(str(exc), place) from exc
    for low, high in (("min_ttl_s", "max_ttl_s"), ("min_weight", "max_weight")):
        if not 0 <= getattr(info, low) <= getattr(info, high):
            raise InvalidInput(f"{low} must lie between 0 and {high}", place)
    return info


def load_macros(package: str) -> MacroTable:
    """Read what a platform fills into links from the tracking.toml in its package.

    Raises InvalidInput that names the file and the field.
    """
    place = f"{package}/{MACROS_FILE}"
    text = importlib.resources.files(package).joinpath(MACROS_FILE).read_text(encoding="utf-8")
    return read_macros(text, place)


def read_macros(text: str, place: str) -> MacroTable:
    """Read macros from TOML; `place` names their source in errors. Raises InvalidInput."""
    try:
        table = msgspec.convert(tomllib.loads(text), MacroTable)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as exc:
        raise InvalidInput(str(exc), place) from exc
    for event in table.events:
        if event not in TRACKED:
            raise InvalidInput(f"{event!r} is none of {', '.join(TRACKED)}", place)
        macros = table.of(event)
        unknown = sorted(macros.keys() - FILLED)
        if unknown:
            raise InvalidInput(f"{unknown[0]!r} is no parameter that is filled in", place)
        if not macros.keys() & INSTANTS.keys():
            raise InvalidInput(f"{event} needs ts_ms or ts_s", place)
    return table


class Facts:
    """A platform's facts as rules for decisions: times and bids are clamped, what the platform
    would not understand becomes a no."""

    def __init__(self, info: PlatformInfo) -> None:
        self.info = info
        self._legal_target = re.compile(info.target_id_pattern or ".*", re.DOTALL).fullmatch
        price = (sys.float_info.min, info.max_price_micros)
        weight = (info.min_weight, info.max_weight)
        self._bounds = {
            kind: weight if kind is BidKind.WEIGHT else price for kind in info.bid_kinds
        }

    def hold(self, decision: Decision) -> Decision:
        """Give the decision back as it is when it keeps to the facts, else a corrected one."""
        if self._keeps(decision):
            return decision
        strategies = tuple(map(self._held, decision.strategies))
        participate = decision.participate and any(s.participate for s in strategies)
        reason = decision.reason
        if decision.participate and not participate:
            refusals = (s.reason for s in strategies if s.reason not in PARTICIPATING)
            reason = next(refusals, ReasonCode.NO_STRATEGY)
        return msgspec.structs.replace(
            decision,
            ttl_s=min(max(decision.ttl_s, self.info.min_ttl_s), self.info.max_ttl_s),
            strategies=strategies,
            participate=participate,
            reason=reason,
        )

    def _keeps(self, decision: Decision) -> bool:
        """Look only: nearly every decision is right already, and a copy costs 1.5 us."""
        if not self.info.min_ttl_s <= decision.ttl_s <= self.info.max_ttl_s:
            return False
        takes_part = False
        for strategy in decision.strategies:
            if strategy.participate:
                takes_part = True
                if not self._speakable(strategy):
                    return False
        return takes_part or not decision.participate

    def _speakable(self, strategy: StrategyDecision) -> bool:
        if self._legal_target(strategy.target_id) is None:
            return False
        bid = strategy.bid
        if bid is None:
            return True
        bounds = self._bounds.get(bid.kind)
        return bounds is not None and bounds[0] <= bid.value <= bounds[1]

    def _held(self, strategy: StrategyDecision) -> StrategyDecision:
        bid = strategy.bid
        if not strategy.participate or self._speakable(strategy):
            return strategy
        if bid is None or self._legal_target(strategy.target_id) is None:
            return _declined(strategy, ReasonCode.UNKNOWN_STRATEGY)
        bounds = self._bounds.get(bid.kind)
        nothing = bid.kind is not BidKind.WEIGHT and bid.value <= 0
        if bounds is None or nothing or not isfinite(bid.value):
            # Dropping only the bid would accept at a price that nobody chose.
            return _declined(strategy, ReasonCode.NO_VALUE)
        value = min(max(bid.value, bounds[0]), bounds[1])
        return msgspec.structs.replace(strategy, bid=Bid(bid.kind, value, bid.currency))


def _declined(strategy: StrategyDecision, reason: ReasonCode) -> StrategyDecision:
    return msgspec.structs.replace(strategy, participate=False, reason=reason, bid=None, tag="")


def money_units(micros: float, unit_micros: int) -> int:
    """Convert a price to whole units of a platform's money, half up and never to nothing."""
    return max(1, int(micros / unit_micros + 0.5))


@dataclass(frozen=True, slots=True)
class HeldAdapter:
    """An adapter that can't break its platform's facts, whatever the decision says."""

    inner: Adapter
    facts: Facts

    @property
    def info(self) -> PlatformInfo:
        """The facts from the platform's info.toml."""
        return self.facts.info

    def parse(self, body: bytes) -> AdRequest:
        """Read the platform's bytes unless there are too many; raises InvalidRequest."""
        if len(body) > self.facts.info.max_body_bytes:
            raise InvalidRequest(
                f"the body is longer than {self.facts.info.max_body_bytes} bytes; send less"
            )
        return self.inner.parse(body)

    def render(self, decision: Decision) -> bytes:
        """Write the platform's bytes for the decision as far as the facts allow it."""
        return self.inner.render(self.facts.hold(decision))

    def render_invalid(self, error: InvalidRequest) -> tuple[int, bytes]:
        """Give the HTTP status and body for a request that can't be read."""
        return self.inner.render_invalid(error)
