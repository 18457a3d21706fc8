"""Who stands behind a request whose ids were seen in snapshots, only since, or never."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rta_service.device_key import KeyRing
from rta_service.domain.device import IdKind
from rta_service.domain.events import Event
from rta_service.domain.reason import ReasonCode
from rta_service.domain.strategy import FunnelRule, Goal
from rta_service.domain.thresholds import DAY_S
from rta_service.domain.user import LifecycleStage
from rta_service.online import policy
from rta_service.online.identity import ResolvedId
from rta_service.online.person import NOBODY, Person, find_person
from rta_service.record import FLAG_OPTED_OUT, UserRecord, pack
from rta_service.record_delta import Delta, apply_deltas, fold, pack_delta

DAY = 19_876
NOW_S = DAY * DAY_S + 60

Find = Callable[[Sequence[bytes | None]], Person]


class Deed:
    """An event of this minute."""

    ts_ms = NOW_S * 1000
    cents = 100
    order_id = ""

    def __init__(self, event: Event) -> None:
        self.event = event


def delta(*words: Event) -> bytes:
    happened: Delta = fold(DAY, 77, [Deed(word) for word in words])
    return pack_delta(happened)


def newcomer(*words: Event) -> bytes:
    return apply_deltas(None, [delta(*words)])


@pytest.fixture
def find(a_snapshot: Any, keys: KeyRing) -> Find:
    """Finds the person of three ids with these records."""

    def run(records: Sequence[bytes | None]) -> Person:
        ids = [ResolvedId(IdKind.OAID, f"{n:032x}", bytes(8)) for n in range(1, 4)]
        found = find_person(a_snapshot.thresholds, keys, ids, records, NOW_S)
        assert found is not None
        return found

    return run


def test_the_first_record_that_a_snapshot_knows_wins(find: Find, a_record: Any) -> None:
    known, other = pack(a_record(person_key=1)), pack(a_record(person_key=2))

    assert find([None, known, other]).key == 1
    assert find([newcomer(Event.LAUNCH), known, other]).key == 1


def test_without_any_a_newcomer_is_found_and_else_nobody(find: Find) -> None:
    first, second = newcomer(Event.LAUNCH), newcomer(Event.PAY)

    assert find([None, first, second]).data == first
    assert find([None, None, None])._replace(key=0) == NOBODY


def test_a_no_to_ads_counts_under_whichever_id_it_was_said(find: Find, a_record: Any) -> None:
    found = find([newcomer(Event.OPT_OUT), pack(a_record()), None])

    assert found.record is not None
    assert found.record.flags & FLAG_OPTED_OUT


def judged(strategy: Any, person: Person) -> ReasonCode:
    assert person.record is not None
    table = policy.trait_table(strategy.audience)
    return policy.admit(strategy, table, person.record, person.stage)


def test_who_registered_a_second_ago_is_not_bid_for_by_a_register_strategy(
    find: Find, a_strategy: Any, an_audience: Any
) -> None:
    rules = frozenset({FunnelRule.NOT_REGISTERED})
    buys = a_strategy(goal=Goal.REGISTER, audience=an_audience(unknown=True))
    ruled = a_strategy(goal=Goal.TRADE, audience=an_audience(funnel=rules, unknown=True))
    registered, launched = newcomer(Event.REGISTER), newcomer(Event.LAUNCH)

    stranger = policy.admit_stranger(buys, find([None]).key)
    reasons = [judged(s, find([d])) for s in (buys, ruled) for d in (launched, registered)]

    assert stranger is ReasonCode.UNKNOWN_ACCEPTED
    assert reasons == [
        ReasonCode.ACCEPTED,
        ReasonCode.ALREADY_REGISTERED,
        ReasonCode.ACCEPTED,
        ReasonCode.FUNNEL_NOT_WANTED,
    ]


@pytest.mark.parametrize(
    ("orders", "stage"), [(0, LifecycleStage.GROWTH), (1, LifecycleStage.MATURITY)]
)
def test_a_payment_of_this_minute_moves_the_stage(
    find: Find, a_record: Any, orders: int, stage: LifecycleStage
) -> None:
    record: UserRecord = a_record(orders=orders)

    assert find([apply_deltas(pack(record), [delta(Event.PAY)])]).stage is stage


def test_an_opt_out_and_an_opt_in_of_this_minute_decide(
    find: Find, a_record: Any, a_strategy: Any
) -> None:
    out = apply_deltas(pack(a_record()), [delta(Event.OPT_OUT)])
    back = apply_deltas(pack(a_record(flags=FLAG_OPTED_OUT)), [delta(Event.OPT_IN)])

    assert judged(a_strategy(), find([out])) is ReasonCode.OPTED_OUT
    assert judged(a_strategy(), find([back])) is ReasonCode.ACCEPTED
