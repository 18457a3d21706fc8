"""Whether an answer is what its platform would accept, within the platform's time.

Knows the contracts from the outside, as a platform does. Imports no locust, so tests can use it.
"""

from collections.abc import Callable
from typing import Final, Literal

import msgspec
from google.protobuf.message import DecodeError

from rta_service.domain.reason import ReasonCode
from rta_service.platforms.tencent.tencent_pb2 import RtaResponse

DEADLINE_S: Final = 0.060
"""The platforms' published budget; on a loopback all of it is ours."""

_REASONS: Final = frozenset(reason.label for reason in ReasonCode)


class _Bid(msgspec.Struct):
    kind: Literal["weight", "cpa", "cpc", "cpm"]
    value: float
    currency: str = ""


class _StrategyAnswer(msgspec.Struct):
    strategy_id: str
    participate: bool
    reason: str
    bid: _Bid | None
    pcvr: dict[Literal["register", "trade"], float] | None


class _Versions(msgspec.Struct):
    release: str
    snapshot: str
    models: dict[str, str]
    strategies: str


class _Answer(msgspec.Struct):
    request_id: str
    participate: bool
    reason: str
    strategies: list[_StrategyAnswer]
    ttl_s: int
    versions: _Versions


_ANSWERS: Final = msgspec.json.Decoder(_Answer)


def check_json(body: bytes) -> str:
    """Say what is wrong with an answer of the `json` platform; empty when nothing is."""
    try:
        answer = _ANSWERS.decode(body)
    except msgspec.MsgspecError as error:
        return f"not the contract's answer: {error}"
    if not {answer.reason, *(strategy.reason for strategy in answer.strategies)} <= _REASONS:
        return "a reason that is not on the list"
    if answer.participate != any(strategy.participate for strategy in answer.strategies):
        return "participates without a strategy, or a strategy without the answer"
    if any(part.participate and part.bid is None for part in answer.strategies):
        return "a yes without a bid"
    return "" if answer.ttl_s > 0 else "a cache time that is not positive"


def check_tencent(body: bytes) -> str:
    """Say what is wrong with an answer for Tencent; empty when nothing is.

    An empty body, or code 0 without a target, would read as a yes to everything.
    """
    if not body:
        return "an empty body, which reads as a yes to everything"
    try:
        answer = RtaResponse.FromString(body)
    except DecodeError:
        return "not an RtaResponse"
    if answer.code == 0 and not answer.out_target_id:
        return "code 0 without a target, which reads as a yes to everything"
    return ""


CHECKS: Final[dict[str, Callable[[bytes], str]]] = {"json": check_json, "tencent": check_tencent}


def verdict(platform: str, status: int, body: bytes, latency_s: float) -> str:
    """Say why a platform would count an answer as a failure; empty when it would not."""
    if status != 200:
        return f"status {status}"
    if wrong := CHECKS[platform](body):
        return f"invalid: {wrong}"
    if latency_s > DEADLINE_S:
        return f"later than {DEADLINE_S * 1000:.0f} ms"
    return ""
