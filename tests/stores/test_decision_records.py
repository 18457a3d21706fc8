"""Recorded decisions in a real store."""

from collections.abc import Callable
from typing import Any

import pytest

from rta_service.domain.decision import Arm, Bid, Prediction, Versions
from rta_service.domain.decision_record import DecisionRecord, Ghost
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.stores.decision_records import DecisionRecordLog
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.keys import event_name
from rta_service.stores.redis import AdminClient, admin_client

FULL = DecisionRecord(
    ts_ms=1_717_286_400_123,
    platform="tencent",
    request=2**64 - 1,
    person=2**63 + 1,
    strategy_id="wake-buyers",
    participate=False,
    reason=ReasonCode.HOLDOUT,
    propensity=0.01,
    bid=Bid(BidKind.CPA, 12_000_000, "CNY"),
    pcvr=Prediction(0.03, 0.01),
    versions=Versions("r1", "s1", {"trade": "v1"}, "st"),
    stage=LifecycleStage.SILENT,
    tier=ValueTier.A,
    arm=Arm.CANARY,
    tag="t" * 36,
    ghost=Ghost(ReasonCode.WOKEN, True, Bid(BidKind.WEIGHT, 1.25), Prediction(0.02, 0.01)),
)


FIRST_FORM = (
    "05a46a736f6e0102a173c300cb3ff0000000000000c0c084a772656c65617365a0a8736e617073686f74a0"
    "a66d6f64656c7380aa73747261746567696573a00500a46c697665a0c0"
)
"""Of `a_record(5)`, without the count of its fields; later ones follow it."""


def a_record(ts_ms: int) -> DecisionRecord:
    return DecisionRecord(ts_ms, "json", 1, 2, "s", True, ReasonCode.ACCEPTED, 1.0)


@pytest.fixture
def log(admin: AdminClient, namespace: str) -> DecisionRecordLog:
    return DecisionRecordLog(admin, namespace)


def test_a_record_comes_back_as_it_was(log: DecisionRecordLog) -> None:
    log.append([FULL, a_record(1)])

    assert [one.record for one in log.read()] == [FULL, a_record(1)]


def test_records_are_read_on_from_where_one_stopped(log: DecisionRecordLog) -> None:
    log.append([a_record(ts) for ts in range(5)])

    first = log.read(count=2)
    rest = log.read(first[-1].entry_id)

    assert [one.record.ts_ms for one in first + rest] == [0, 1, 2, 3, 4]
    assert log.read(rest[-1].entry_id) == []


def test_what_was_learned_from_can_be_dropped(log: DecisionRecordLog) -> None:
    log.append([a_record(ts) for ts in range(5)])
    third = log.read()[2].entry_id

    assert log.trim(third) == 2
    assert [one.record.ts_ms for one in log.read()] == [2, 3, 4]
    assert log.length() == 3


def test_only_the_newest_are_kept(admin: AdminClient, namespace: str) -> None:
    log = DecisionRecordLog(admin, namespace, most=300)

    for start in range(0, 2_000, 500):
        log.append([a_record(start + row) for row in range(500)])

    assert 300 <= log.length() <= 500
    assert log.read(count=1_000)[-1].record.ts_ms == 1_999


def test_nothing_to_append_asks_no_store(own_store: EmbeddedStore, namespace: str) -> None:
    log = DecisionRecordLog(admin_client(own_store.url, timeout_s=0.2), namespace)
    own_store.stop()

    log.append([])

    with pytest.raises(StoreUnavailable, match="recording decisions"):
        log.append([a_record(1)])


def test_a_record_holds_what_a_namespace_s_budget_counts_with(
    server: Callable[..., int], namespace: str
) -> None:
    client = admin_client(f"redis://127.0.0.1:{server()}")
    log = DecisionRecordLog(client, namespace)
    before = client.info("memory")["used_memory"]

    for _ in range(20):
        log.append([FULL] * 500)

    grown = client.info("memory")["used_memory"] - before
    assert grown / 10_000 < 450
    client.close()


def test_the_form_of_a_record_only_grows(
    admin: AdminClient, namespace: str, log: DecisionRecordLog
) -> None:
    log.append([a_record(5)])

    kept: Any = admin.xrange(event_name(namespace, "decisions"))
    assert kept[0][1][b"d"].hex() == "dc0011" + FIRST_FORM + "c0"


def test_a_record_of_the_first_form_is_still_read(
    admin: AdminClient, namespace: str, log: DecisionRecordLog
) -> None:
    name = event_name(namespace, "decisions")
    admin.xadd(name, {b"d": bytes.fromhex("dc0010" + FIRST_FORM)})

    assert [one.record for one in log.read()] == [a_record(5)]
