"""Why a request was answered as it was: every number on the way, for people."""

import math
from typing import Any, Final, NamedTuple

import msgspec

from rta_service.device_key import KeyRing
from rta_service.domain.clock import Clock
from rta_service.domain.decision import Decision, StrategyDecision
from rta_service.domain.reason import PARTICIPATING, REASON_TEXT
from rta_service.domain.release import Canary
from rta_service.domain.request import AdRequest
from rta_service.domain.tag import TagCodec
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.domain.user import RFMSegment, Role
from rta_service.experiments import bucket
from rta_service.online import bid, identity
from rta_service.online.control_desk import ControlDesk
from rta_service.online.explain_control import Priced, describe_control
from rta_service.online.live_release import BoundStrategy, LiveRelease, prediction
from rta_service.online.person import Person, find_person
from rta_service.online.pipeline import Found, candidate, decide_found, judge
from rta_service.online.profiles import ProfileReader, read_batch
from rta_service.online.score import Scores, score
from rta_service.online.tagging import tagged
from rta_service.record import FLAG_OPTED_OUT, UserRecord, money_cents

Json = dict[str, Any]
"""What json.dumps takes."""

_COUNTS: Final = (
    "orders",
    "launches",
    "active_days_28",
    "browses",
    "ad_exposures",
    "ad_clicks",
    "listings",
    "sales",
)


class Means(NamedTuple):
    """What a process decides with, besides a release."""

    reader: ProfileReader
    keys: KeyRing
    clock: Clock
    tags: TagCodec | None = None
    desk: ControlDesk | None = None
    """With orders just read; one that does not count."""


async def explain(live: LiveRelease, means: Means, request: AdRequest) -> Json:
    """Decide one request and show all that led there; raises DegradedError as a request would.

    Device ids appear as keyed hashes only; numbers that are none are shown as None.
    """
    keys = means.keys
    now_ms = means.clock.now_ms()
    now_s = now_ms // 1000
    ids = identity.resolve(request, keys)
    records = (await read_batch(means.reader, live.snapshot, [[i.key for i in ids]]))[0]
    found = [Found(request, ids, records)]
    decisions = decide_found(live, keys, found, now_s, means.desk).decisions
    if means.tags is not None:
        decisions = tagged(means.tags, [request], decisions, now_ms)
    decision = decisions[0]
    answer: Json = msgspec.to_builtins(
        {
            "request_id": decision.request_id,
            "participate": decision.participate,
            "reason": decision.reason.label,
            "why": REASON_TEXT[decision.reason],
            "ttl_s": decision.ttl_s,
            "versions": decision.versions,
            "arm": decision.arm,
        }
    )
    answer["ids"] = [
        {"kind": i.kind.value, "key": i.key.hex(), "found": data is not None}
        for i, data in zip(ids, records, strict=True)
    ]
    person = find_person(live.snapshot.thresholds, keys, ids, records, now_s)
    if person is not None:
        answer["person"] = describe_person(person, now_s, live.snapshot.thresholds)
        if live.release.canary is not None:
            answer["canary"] = _describe_canary(live, live.release.canary, person)
        asked = _Asked(live.arm_of(person.key), request, person)
        prices = _prices(asked, decision, now_s, means.desk)
        answer["strategies"] = [
            _describe_answer(a) | prices.get(a.strategy_id, {}) for a in decision.strategies
        ]
    return answer


class _Asked(NamedTuple):
    live: LiveRelease
    request: AdRequest
    person: Person


def _describe_canary(live: LiveRelease, canary: Canary, person: Person) -> Json:
    """Show where a person falls: below the share the canary decides."""
    return {
        "models": {ref.name: ref.version for ref in canary.models},
        "bucket": bucket(person.key, live.canary_salt),
        "share_millionths": canary.share_millionths,
    }


def describe_person(person: Person, now_s: int, thresholds: Thresholds) -> Json:
    """Show who a request's person is and how the stage follows."""
    described: Json = {
        "known": person.record is not None,
        "stage": person.stage.label,
        "tier": person.tier.label,
        "thresholds": thresholds.as_days(),
    }
    if person.record is not None:
        described |= describe_record(person.record, now_s)
    return described


def describe_record(record: UserRecord, now_s: int) -> Json:
    """Show a record's fields with their meanings; instants as days ago, None for never."""
    instants = {
        name.removesuffix("_at") + "_days_ago": round((now_s - value) / DAY_S, 3) if value else None
        for name, value in record._asdict().items()
        if name.endswith("_at")
    }
    return {
        "role": Role(record.role).label,
        "segment": RFMSegment(record.segment).label,
        "opted_out": bool(record.flags & FLAG_OPTED_OUT),
        "money": round(money_cents(record.money_code) / 100, 2),
        **instants,
        **{name: getattr(record, name) for name in _COUNTS},
    }


def _describe_answer(answer: StrategyDecision) -> Json:
    shown: Json = {
        "strategy_id": answer.strategy_id,
        "target_id": answer.target_id,
        "participate": answer.participate,
        "reason": answer.reason.label,
        "why": REASON_TEXT[answer.reason],
        "bid": msgspec.to_builtins(answer.bid),
        "pcvr": msgspec.to_builtins(answer.pcvr),
    }
    return shown | ({"tag": answer.tag} if answer.tag else {})


def _prices(
    asked: _Asked, decision: Decision, now_s: int, desk: ControlDesk | None
) -> dict[str, Json]:
    """Show by strategy how each that wants the person so far comes to its price."""
    live, request, person = asked
    wanted = [bound for bound, reason in judge(live, request, person) if reason in PARTICIPATING]
    if not wanted:
        return {}
    scores = score(live.models, live.heads, [candidate(request, person)], now_s)[0]
    shown = {b.strategy.strategy_id: _price(b, scores, request) for b in wanted}
    if desk is not None:
        sitting = desk.sit(request, person)
        registered = person.record is not None and person.record.registered_at > 0
        pcvr = prediction(scores, registered=registered)
        answers = {one.strategy_id: one for one in decision.strategies}
        for bound in wanted:
            if bound.unit:
                strategy_id = bound.strategy.strategy_id
                priced = Priced(bound, scores, pcvr, answers[strategy_id])
                shown[strategy_id]["control"] = describe_control(sitting, priced)
    return shown


def _price(bound: BoundStrategy, scores: Scores, request: AdRequest) -> Json:
    strategy = bound.strategy
    worth = bound.worth(scores)
    value_micros = strategy.value_micros or strategy.target_cpa_micros
    pctr = bound.asked_price(request, scores).pctr or 0.0
    numbers = {
        **{f"head.{name}": value for name, value in scores.items()},
        "goal_pcvr": worth.goal_pcvr,
        "value_given_event": worth.value_given_event,
        "mean_value": bound.mean_value,
        "weight_before_bounds": bid.weight(worth.value_given_event, bound.mean_value),
        "expected_value_micros": worth.value_given_event * value_micros,
        "target_cpa_micros": float(strategy.target_cpa_micros),
        "before_bounds": bid.unclamped(strategy, bound.mean_value, worth, pctr),
    }
    heads = filter(None, (bound.value_numerator, bound.value_denominator))
    return {
        "goal": strategy.goal.value,
        "optimises": strategy.optimises.value,
        "answer": strategy.answer.value,
        "value_rule": " / ".join(heads) or "one",
        "bounds": list(bound.bounds),
        **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
    }
