"""The json platform's words to ours and back."""

import re
from typing import Final

import msgspec
from msgspec import UNSET

from rta_service.domain.decision import Bid, Decision, StrategyDecision
from rta_service.domain.device import DeviceId, OperatingSystem, Placement
from rta_service.domain.errors import InvalidRequest
from rta_service.domain.platform import BidKind, PlatformInfo
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.platforms.base import money_units
from rta_service.platforms.json import wire

_SYSTEMS: Final[dict[wire.OsWord, OperatingSystem]] = {
    "android": OperatingSystem.ANDROID,
    "ios": OperatingSystem.IOS,
    "harmony": OperatingSystem.HARMONY,
    "other": OperatingSystem.OTHER,
}
_PLACEMENTS: Final[dict[wire.PlacementWord | msgspec.UnsetType, Placement]] = {
    UNSET: Placement.NONE,
    "splash": Placement.SPLASH,
    "app_store": Placement.APP_STORE,
    "search_suggest": Placement.SEARCH_SUGGEST,
    "search_result": Placement.SEARCH_RESULT,
    "feed": Placement.FEED,
    "other": Placement.OTHER,
}
_REASONS: Final = tuple(reason.label for reason in sorted(ReasonCode))
"""Labels by code: codes count from zero, and a tuple needs no hash of an enum."""
_LOCATED: Final = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")


class JsonAdapter:
    """The contract of docs/platforms/json.md."""

    def __init__(self, info: PlatformInfo) -> None:
        self.info = info
        self._decode = msgspec.json.Decoder(wire.Request).decode
        self._encode = msgspec.json.Encoder().encode

    def parse(self, body: bytes) -> AdRequest:
        """Read one request; raises InvalidRequest whose field is the path in the JSON."""
        try:
            request = self._decode(body)
        except msgspec.ValidationError as exc:
            raise _invalid(str(exc)) from exc
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise InvalidRequest(f"not JSON: {exc}") from exc
        except RecursionError as exc:
            raise InvalidRequest("the JSON is nested too deeply") from exc
        context = request.context
        return AdRequest(
            request_id=request.request_id,
            platform=self.info,
            ids=tuple([DeviceId(i.kind, i.value, i.form, i.trusted) for i in request.device.ids]),
            os=_SYSTEMS[request.device.os],
            placement=_PLACEMENTS[context.placement],
            asked_strategies=tuple(request.strategy_ids),
            bid_floor_micros=context.bid_floor_micros,
            currency=context.currency,
            pctr=context.pctr,
            is_ping=request.ping,
            is_test=request.test,
        )

    def render(self, decision: Decision) -> bytes:
        """Write one answer."""
        return self._encode(
            wire.Answer(
                decision.request_id,
                decision.participate,
                _REASONS[decision.reason],
                [_strategy_answer(strategy) for strategy in decision.strategies],
                decision.ttl_s,
                decision.versions,
            )
        )

    def render_invalid(self, error: InvalidRequest) -> tuple[int, bytes]:
        """Answer 400 and say which field is wrong."""
        return 400, self._encode(wire.Refusal(str(error), error.field))


def _strategy_answer(strategy: StrategyDecision) -> wire.StrategyAnswer:
    return wire.StrategyAnswer(
        strategy.strategy_id,
        strategy.participate,
        _REASONS[strategy.reason],
        _bid_answer(strategy.bid) if strategy.participate and strategy.bid is not None else None,
        strategy.pcvr,
        strategy.tag or UNSET,
    )


def _bid_answer(bid: Bid) -> wire.BidAnswer:
    if bid.kind is BidKind.WEIGHT:
        return wire.BidAnswer(bid.kind, bid.value)
    return wire.BidAnswer(bid.kind, money_units(bid.value, 1), bid.currency or UNSET)


def _invalid(message: str) -> InvalidRequest:
    """Take msgspec's message apart: it ends in the path of what is wrong, if not the whole."""
    located = _LOCATED.fullmatch(message)
    said, path = located.groups() if located is not None else (message, "")
    missing = _MISSING.fullmatch(said)
    if missing is not None:
        path = f"{path}.{missing[1]}" if path else missing[1]
    return InvalidRequest(said, path)
