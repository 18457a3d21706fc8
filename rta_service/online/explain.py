"""Why a request was answered as it was: every number on the way, for people."""

from typing import Any

import msgspec

from rta_service.device_key import KeyRing
from rta_service.domain.clock import Clock
from rta_service.domain.reason import PARTICIPATING, REASON_TEXT
from rta_service.domain.request import AdRequest
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.domain.user import RFMSegment, Role
from rta_service.online import bid, identity
from rta_service.online.live_release import BoundStrategy, LiveRelease
from rta_service.online.pipeline import Person, decide_people, find_person, judge
from rta_service.online.profiles import ProfileReader, read_batch
from rta_service.online.score import Candidate, Scores, score
from rta_service.record import UserRecord, money_cents

Json = dict[str, Any]
"""What json.dumps takes."""


async def explain(
    live: LiveRelease, reader: ProfileReader, keys: KeyRing, clock: Clock, request: AdRequest
) -> Json:
    """Decide one request and show all that led there; raises DegradedError as a request would.

    Device ids appear as keyed hashes only.
    """
    now_s = clock.now_ms() // 1000
    ids = identity.resolve(request, keys)
    found = (await read_batch(reader, live.snapshot, [[i.key for i in ids]]))[0]
    person = find_person(live, keys, ids, found, now_s)
    decision = decide_people(live, [request], [person], now_s)[0]
    answer: Json = msgspec.to_builtins(
        {
            "request_id": decision.request_id,
            "participate": decision.participate,
            "reason": decision.reason.label,
            "ttl_s": decision.ttl_s,
            "versions": decision.versions,
        }
    )
    answer["ids"] = [
        {"kind": i.kind.value, "key": i.key.hex(), "found": data is not None}
        for i, data in zip(ids, found, strict=True)
    ]
    if person is not None:
        answer["person"] = describe_person(person, now_s, live.snapshot.thresholds)
        answer["strategies"] = _strategies(live, request, person, now_s)
    return answer


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
        "opted_out": bool(record.flags & 1),
        "money": round(money_cents(record.money_code) / 100, 2),
        **instants,
        **{
            name: getattr(record, name)
            for name in (
                "orders",
                "launches",
                "active_days_28",
                "browses",
                "ad_exposures",
                "ad_clicks",
                "listings",
                "sales",
            )
        },
    }


def _strategies(live: LiveRelease, request: AdRequest, person: Person, now_s: int) -> list[Json]:
    verdicts = judge(live, request, person)
    wanted = any(reason in PARTICIPATING for _, reason in verdicts)
    context = (request.platform.code, int(request.os), int(request.placement))
    candidate = Candidate(person.data, *context)
    scores = score(live.models, live.heads, [candidate], now_s) if wanted else {}
    answers = []
    for bound, reason in verdicts:
        shown: Json = {
            "strategy_id": bound.strategy.strategy_id,
            "target_id": bound.target_id,
            "reason": reason.label,
            "why": REASON_TEXT[reason],
        }
        if reason in PARTICIPATING:
            shown |= _price(bound, scores, request)
        answers.append(shown)
    return answers


def _price(bound: BoundStrategy, scores: Scores, request: AdRequest) -> Json:
    strategy = bound.strategy
    worth = bound.worth(scores, 0)
    amount = bid.unclamped(strategy, bound.mean_value, worth, request.pctr or 0.0)
    factor = bid.weight(worth.value_given_event, bound.mean_value)
    value_micros = strategy.value_micros or strategy.target_cpa_micros
    return {
        "goal": strategy.goal.value,
        "optimises": strategy.optimises.value,
        "answer": strategy.answer.value,
        "heads": {name: values[0] for name, values in scores.items()},
        "goal_pcvr": worth.goal_pcvr,
        "value_given_event": worth.value_given_event,
        "value_rule": " / ".join(filter(None, (bound.value_numerator, bound.value_denominator)))
        or "one",
        "mean_value": bound.mean_value,
        "weight_before_bounds": factor,
        "expected_value_micros": round(worth.value_given_event * value_micros),
        "feedback_multiplier": strategy.feedback_multiplier,
        "target_cpa_micros": strategy.target_cpa_micros,
        "before_bounds": amount,
        "bounds": list(bound.bounds),
    }
