"""The simulated log: reproducible, in the schema that the offline half reads, with the right shape."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from rta_service.domain.device import IdKind
from rta_service.domain.events import Event
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.domain.user import LifecycleStage, Role
from rta_service.record import stage_code
from rta_service.simulation.journal import DAY_MS, EVENTS, NONE
from rta_service.simulation.market import Market, MarketOptions, simulate_market

AS_OF_MS = 1_772_323_200_000
SMALL = MarketOptions(devices=600, days=40)


@dataclass(frozen=True)
class Timeline:
    """The events of some kinds, ordered by person and time."""

    person: NDArray[np.int64]
    ts_ms: NDArray[np.int64]

    def next_after(self, person: NDArray[Any], ts_ms: NDArray[Any]) -> NDArray[np.float64]:
        """Days until the person's next event, inf without one."""
        keys = self.person * (1 << 42) + self.ts_ms - (AS_OF_MS - 400 * DAY_MS)
        wanted = person * (1 << 42) + ts_ms - (AS_OF_MS - 400 * DAY_MS)
        at = np.searchsorted(keys, wanted, side="right")
        place = np.minimum(at, len(keys) - 1)
        found = (at < len(keys)) & (self.person[place] == person)
        return np.where(found, (self.ts_ms[place] - ts_ms) / DAY_MS, np.inf)


def timeline(market: Market, *events: Event) -> Timeline:
    columns = market.columns
    rows = np.isin(columns["event"], [EVENTS.index(event) for event in events])
    rows &= ~np.isin(np.arange(len(market)), repeated_rows(market))
    person, ts_ms = columns["person"][rows], columns["ts_ms"][rows]
    order = np.lexsort((ts_ms, person))
    return Timeline(person[order], ts_ms[order])


def repeated_rows(market: Market) -> NDArray[np.int64]:
    first = np.unique(market.columns["id"], return_index=True)[1]
    return np.setdiff1d(np.arange(len(market)), first)


@dataclass(frozen=True)
class Lifecycle:
    silent_days: float
    churned_days: float
    shares: dict[LifecycleStage, float]


@pytest.fixture(scope="module")
def lifecycle(market: Market) -> Lifecycle:
    launches, pays = timeline(market, Event.LAUNCH), timeline(market, Event.PAY)
    gaps = np.diff(launches.ts_ms)[np.diff(launches.person) == 0] / DAY_MS
    returns = launches.next_after(pays.person, pays.ts_ms)
    silent, churned = (
        float(np.quantile(values, 0.8)) for values in (returns[np.isfinite(returns)], gaps)
    )
    thresholds = Thresholds(int(silent * DAY_S), int(churned * DAY_S), 0, 0, 0, 0, 0, 0)
    persons = len(market.people)
    last = np.zeros(persons, dtype=np.int64)
    columns = market.columns
    np.maximum.at(last, launches.person, launches.ts_ms)
    first = np.full(persons, AS_OF_MS)
    np.minimum.at(first, columns["person"], columns["ts_ms"])
    idle_s = (AS_OF_MS - np.where(last > 0, last, first)) // 1000
    orders = np.bincount(pays.person, minlength=persons)
    stages = np.array(
        [
            stage_code(i, o, thresholds)
            for i, o in zip(idle_s.tolist(), orders.tolist(), strict=True)
        ]
    )
    seen = market.truth.person[market.truth.seen]
    return Lifecycle(
        silent, churned, {stage: float((stages[seen] == stage).mean()) for stage in LifecycleStage}
    )


def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        simulate_market(SMALL).write_events(tmp_path / name)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_another_seed_gives_another_log() -> None:
    one, two = (simulate_market(replace(SMALL, seed=seed)) for seed in (1, 2))

    assert one.devices.raw != two.devices.raw
    assert not np.array_equal(one.columns["ts_ms"], two.columns["ts_ms"])


def test_the_file_has_the_columns_of_an_event_log(tmp_path: Path) -> None:
    simulate_market(SMALL).write_events(tmp_path / "events.parquet")

    schema = pq.read_schema(tmp_path / "events.parquet")

    assert {field.name: str(field.type) for field in schema} == {
        **dict.fromkeys(
            ["device_id", "id_kind", "id_form", "event", "user_id", "order_id", "currency"],
            "string",
        ),
        **dict.fromkeys(
            ["item_id", "category", "channel", "placement", "os", "event_id"], "string"
        ),
        "ts_ms": "int64",
        "cents": "int64",
    }


def test_the_log_speaks_the_words_of_the_domain() -> None:
    table = simulate_market(SMALL).table()

    def words(column: str) -> set[str | None]:
        return set(table[column].unique().to_pylist())

    assert words("event") <= {event.value for event in Event}
    assert words("id_kind") == {"oaid", "imei", "idfa", "caid"}
    assert words("id_form") == {"raw"}
    assert words("channel") == {"organic", "json", "tencent"}
    assert words("os") == {"android", "ios", "harmony"}
    assert words("placement") >= {None, "splash", "feed", "app_store"}
    assert words("currency") == {None, "CNY"}


def test_every_event_lies_before_the_as_of_day_and_in_order_of_time(market: Market) -> None:
    ts_ms = market.columns["ts_ms"]

    assert ts_ms.min() >= AS_OF_MS - 120 * DAY_MS
    assert ts_ms.max() < AS_OF_MS
    assert (np.diff(ts_ms) >= 0).all()


def test_every_kind_of_event_occurs(market: Market) -> None:
    counts = np.bincount(market.columns["event"], minlength=len(EVENTS))

    missing = {event.value for event, count in zip(EVENTS, counts, strict=True) if not count}
    assert missing <= {"opt_in"}


def test_a_user_id_appears_with_the_registration_and_stays(market: Market) -> None:
    columns = market.columns
    registered = timeline(market, Event.REGISTER)
    since = np.full(len(market.people), AS_OF_MS)
    since[registered.person] = registered.ts_ms

    is_named = columns["user"] != NONE

    assert (is_named == (columns["ts_ms"] >= since[columns["person"]])).all()
    assert (columns["user"][is_named] == columns["person"][is_named]).all()


def test_a_few_events_come_twice_with_the_same_id(market: Market) -> None:
    repeated = repeated_rows(market)

    assert 0.0001 < len(repeated) / len(market) < 0.002


def test_money_moves_with_an_order(market: Market) -> None:
    columns = market.columns
    paid = columns["event"] == EVENTS.index(Event.PAY)
    refunded = columns["event"] == EVENTS.index(Event.REFUND)

    assert (columns["cents"][paid] > 0).all()
    assert (columns["order"][paid] != NONE).all()
    assert np.isin(columns["order"][refunded], columns["order"][paid]).all()


def test_people_own_exactly_the_devices_asked_for(market: Market) -> None:
    truth = market.truth

    assert len(truth) == len(set(truth.raw)) == 8_000
    assert market.people.id_count.min() >= 1
    assert market.people.id_count.max() <= 3
    assert truth.seen.mean() > 0.85
    assert set(truth.kind) == {IdKind.OAID, IdKind.IMEI, IdKind.IDFA, IdKind.CAID}
    assert 0.01 < (truth.role == Role.PROFESSIONAL_SELLER).mean() < 0.03


def test_payers_look_after_their_order_sooner_than_others_come_back(lifecycle: Lifecycle) -> None:
    assert 3.5 < lifecycle.silent_days < 8.0
    assert 9.5 < lifecycle.churned_days < 20.0


def test_every_stage_of_the_lifecycle_is_well_filled(lifecycle: Lifecycle) -> None:
    shares = lifecycle.shares

    assert shares[LifecycleStage.INTRODUCTION] > 0.25
    assert shares[LifecycleStage.GROWTH] > 0.03
    assert shares[LifecycleStage.MATURITY] > 0.03
    assert shares[LifecycleStage.SILENT] > 0.03
    assert 0.33 < shares[LifecycleStage.SILENT] + shares[LifecycleStage.CHURNED] < 0.50


def test_conversions_after_a_click_are_as_rare_as_they_are_learnable(market: Market) -> None:
    clicks = timeline(market, Event.AD_CLICK)
    known_by = np.zeros(len(market.people)) + AS_OF_MS
    registered = timeline(market, Event.REGISTER)
    known_by[registered.person] = registered.ts_ms
    early = clicks.ts_ms < AS_OF_MS - 14 * DAY_MS
    stranger = early & (known_by[clicks.person] > clicks.ts_ms)

    registers = registered.next_after(clicks.person, clicks.ts_ms) <= 7
    trades = timeline(market, Event.PAY, Event.SOLD).next_after(clicks.person, clicks.ts_ms) <= 14

    assert 0.08 < registers[stranger].mean() < 0.17
    assert 0.08 < trades[early].mean() < 0.17
    browsed = timeline(market, Event.VIEW, Event.SEARCH)
    never = np.isinf(
        browsed.next_after(clicks.person, np.zeros(len(clicks.person), dtype=np.int64))
    )
    assert registers[stranger & ~never].mean() > 2 * registers[stranger & never].mean()


def test_clicks_go_on_to_the_end_by_strangers_and_users(market: Market) -> None:
    columns = market.columns
    clicks = columns["event"] == EVENTS.index(Event.AD_CLICK)
    last_week = clicks & (columns["ts_ms"] >= AS_OF_MS - 7 * DAY_MS)

    assert last_week.sum() > 300
    assert 0.3 < (columns["user"][last_week] == NONE).mean() < 0.9
