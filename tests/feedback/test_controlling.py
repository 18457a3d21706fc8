"""Controllers on a real store: steps, takeover, rebuilds, outages, and what the publisher mends."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rta_service.domain.control import Aim, Budget, CostGoal, Mode, Reason, Targets
from rta_service.domain.control_feed import FeedBatch, FeedRow, RowKind, body_of
from rta_service.domain.control_order import ControlSettings, Usage
from rta_service.domain.errors import DegradedError, StaleWriter
from rta_service.domain.platform import BidKind
from rta_service.feedback.control_rebuild import rebuild
from rta_service.feedback.control_unit import kept_of
from rta_service.feedback.controlling import Controller, Place
from rta_service.feedback.feed_publishing import FeedPublisher
from rta_service.nearline.control.feeding import Terms
from rta_service.stores.control_feed import ControlFeed
from rta_service.stores.control_store import ControlStore, Saved, WorkerControl, _Call
from rta_service.stores.redis import AdminClient, admin_client, close, watch_client

UNIT, OTHER = "s1@json", "s2@json"
NANO = 1_000_000_000


class Seen:
    """What a controller shows."""

    def __init__(self) -> None:
        self.steps = 0
        self.shown: tuple[int, float, float, bool] = (0, 0.0, 0.0, False)
        self.guards: Counter[Reason] = Counter()

    def count_control_steps(self, steps: int, /) -> None:
        self.steps += steps

    def show_control(self, units: int, oldest_s: float, lag_s: float, *, outage: bool) -> None:
        self.shown = (units, oldest_s, lag_s, outage)

    def show_control_guards(self, flags: Mapping[Reason, int], /) -> None:
        self.guards = Counter({flag: units for flag, units in flags.items() if units})


class StillFeed(ControlFeed):
    """The feed with a clock that the test moves."""

    at_ms = 1_790_000_000_000

    def now_ms(self) -> int:
        return self.at_ms


class Rows:
    """A ledger's feed in memory."""

    def __init__(self) -> None:
        self.batches: list[FeedBatch] = []

    def add(self, at_ms: int, **rows: list[FeedRow]) -> None:
        before = self.batches[-1].number if self.batches else 0
        named = {unit.replace("_", "@"): told for unit, told in rows.items()}
        self.batches.append(FeedBatch(before + 1, before, at_ms, body_of(named)))

    def feed(self, after: int, most: int, until: int = 2**62, /) -> list[FeedBatch]:
        return [b for b in self.batches if after < b.number <= until][:most]


class Kit:
    """A store, a feed and controllers."""

    def __init__(self, url: str, admin: AdminClient, space: str) -> None:
        self.url, self.space = url, space
        self.store = ControlStore(admin, space)
        self.feed = StillFeed(admin, space)
        self.ledger = Rows()
        self.seen = Seen()
        self.wanted: dict[str, Terms] = {UNIT: terms()}
        log: Any = None
        self.publisher = FeedPublisher(lambda: self.ledger, self.feed, log)

    def controller(self, holder: str = "one", **place: Any) -> Controller:
        return Controller(
            Place(holder, **place), self.store, self.feed, lambda: self.wanted, self.seen
        )

    def pass_time(self, seconds: float) -> int:
        self.feed.at_ms += round(1000 * seconds)
        return self.feed.at_ms

    def tell(self, unit: str = UNIT, rows: int = 20) -> None:
        """Buy some clicks now; every fifth converts at once."""
        now = self.feed.at_ms
        clicks = [
            FeedRow(RowKind.CLICK, now + n, 1, 400_000, NANO // 5, NANO // 50) for n in range(rows)
        ]
        deep = [FeedRow(RowKind.SHALLOW, now + n, 1, came_ms=now + n) for n in range(0, rows, 5)]
        self.ledger.add(now, **{unit.replace("@", "_"): clicks + deep})
        self.publisher.copy(now)

    def rebuilt(self, unit: str = UNIT) -> bytes:
        (found,) = rebuild(self.store, self.ledger, [unit])
        assert found.rebuilt is not None
        return found.rebuilt

    def kept(self, unit: str = UNIT) -> bytes:
        state = self.store.state(unit)
        assert state is not None
        return kept_of(state)


def terms(target: int = 2_000_000, budget: int | None = None, **more: Any) -> Terms:
    aim = Aim(Mode.TCPA, Targets(shallow_micros=target), CostGoal.SHALLOW)
    more = {"ahead_ms": 86_400_000, **more}
    settings = ControlSettings(aim, None if budget is None else Budget(budget), **more)
    return Terms(settings, BidKind.CPC if budget is None else BidKind.CPM)


@pytest.fixture
def kit(log_store_url: str, space: str) -> Iterator[Kit]:
    client = admin_client(log_store_url)
    yield Kit(log_store_url, client, space)
    client.close()


def run(kit: Kit, controller: Controller, steps: int, unit: str = UNIT) -> None:
    for _ in range(steps):
        kit.tell(unit)
        kit.pass_time(15)
        controller.turn()


def test_a_unit_steps_when_its_period_is_over_and_is_rebuilt_to_the_byte(kit: Kit) -> None:
    controller = kit.controller()

    stepped = [controller.turn()]
    for seconds in (1, 13, 1, 15):
        kit.tell()
        kit.pass_time(seconds)
        stepped.append(controller.turn())

    assert stepped == [1, 0, 0, 1, 1]
    order, view = kit.store.orders()[UNIT], kit.store.views()[UNIT]
    assert order.block.version == view.version == 3
    assert view.told == 80
    assert kit.kept() == kit.rebuilt()
    assert kit.seen.steps == 3
    assert kit.seen.shown[0] == 1


def test_another_controller_goes_on_where_one_was_killed_and_the_old_one_writes_nothing(
    kit: Kit,
) -> None:
    first, second = kit.controller("one"), kit.controller("two")
    run(kit, first, 3)
    assert second.turn() == 0
    assert not second.is_at_work

    kit.store.give_back(0, "one")  # as its end of life does
    run(kit, second, 3)
    kit.store.give_back(0, "two")
    kit.store.take(0, "three")
    fence = kit.store.take(0, "three")
    kit.pass_time(15)
    with pytest.raises(StaleWriter, match="another controller took over"):
        kit.store.save(0, fence - 1, [], 0)

    assert first.turn() == 0
    assert kit.kept() == kit.rebuilt()
    assert kit.store.views()[UNIT].told == 100, "the clicks before its first step do not count"


def test_a_step_that_is_not_the_next_one_is_refused(kit: Kit) -> None:
    controller = kit.controller()
    run(kit, controller, 2)
    state, order = kit.store.state(UNIT), kit.store.orders()[UNIT]
    assert state is not None
    saved = (UNIT, 5, state, b"step", order, kit.store.views()[UNIT])

    with pytest.raises(StaleWriter, match="is another one's"):
        kit.store.save(0, kit.store.take(0, "one"), [Saved(*saved)], 0)


def test_terms_that_change_take_effect_at_once_and_are_rebuilt(kit: Kit) -> None:
    controller = kit.controller()
    run(kit, controller, 3)

    kit.wanted = {UNIT: terms(4_000_000)}
    kit.pass_time(1)
    assert controller.turn() == 1

    (goal,) = kit.store.orders()[UNIT].block.goals
    assert goal.target_micros == 4_000_000
    run(kit, controller, 2)
    assert kit.kept() == kit.rebuilt()


def test_a_unit_that_nobody_wants_has_no_order_and_its_state_goes_on(kit: Kit) -> None:
    controller = kit.controller()
    run(kit, controller, 2)

    kit.wanted = {}
    controller.turn()

    assert kit.store.orders() == {}
    kit.tell()
    kit.pass_time(61)
    assert controller.turn() == 1
    assert kit.kept() == kit.rebuilt()
    assert kit.store.orders() == {}


def test_many_units_are_saved_in_parts(kit: Kit) -> None:
    kit.wanted = {f"s{n}@json": terms() for n in range(150)}
    controller = kit.controller()

    assert controller.turn() == 150
    kit.pass_time(15)
    assert controller.turn() == 150

    assert {order.block.version for order in kit.store.orders().values()} == {2}
    assert len(kit.store.orders()) == 150


def test_units_are_shared_among_shards(kit: Kit) -> None:
    names = [f"s{n}@json" for n in range(10)]
    kit.wanted = dict.fromkeys(names, terms())

    stepped = [kit.controller(f"c{n}", shard=n, shards=2).turn() for n in range(2)]

    assert sum(stepped) == 10
    assert min(stepped) > 0
    assert sorted(kit.store.orders()) == names


def test_rows_that_the_store_lost_are_waited_for_and_sent_again(kit: Kit) -> None:
    controller = kit.controller()
    run(kit, controller, 3)
    kit.tell()
    kit.tell()
    kit.feed.begin_again()
    kit.tell()
    kit.feed.trim(kit.ledger.batches[-2].number)

    with pytest.raises(DegradedError, match="the feed lacks rows after"):
        controller.turn()
    for _ in range(20):
        kit.publisher.copy(kit.feed.at_ms)
    kit.pass_time(15)
    controller.turn()

    assert kit.store.views()[UNIT].told == 100
    assert kit.kept() == kit.rebuilt()


def test_silence_of_all_units_freezes_them_and_is_told_once(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    kit.wanted = {UNIT: terms(horizon_s=3_600.0), OTHER: terms(horizon_s=3_600.0)}
    controller = kit.controller()
    for _ in range(10):
        kit.tell(UNIT)
        kit.tell(OTHER)
        kit.pass_time(15)
        controller.turn()
    level = kit.store.orders()[UNIT].block.goals[0].log_multiplier

    for _ in range(25):
        click = FeedRow(RowKind.CLICK, kit.feed.at_ms, 1, 400_000, NANO // 5, NANO // 50)
        kit.ledger.add(kit.feed.at_ms, s1_json=[click] * 20, s2_json=[click] * 20)
        kit.publisher.copy(kit.feed.at_ms)
        kit.pass_time(15)
        controller.turn()

    block = kit.store.orders()[UNIT].block
    assert Reason.POSTBACK_OUTAGE in block.flags
    assert kit.seen.shown[3] is True
    assert kit.seen.guards[Reason.POSTBACK_OUTAGE] == 2
    assert abs(block.goals[0].log_multiplier - level) < 0.1
    said = [record.getMessage() for record in caplog.records]
    assert said.count("guard postback_outage begins for s1@json") == 1
    assert kit.kept() == kit.rebuilt()


async def test_a_worker_gets_orders_money_and_is_counted_once(kit: Kit) -> None:
    kit.wanted = {UNIT: terms(budget=1_000_000)}
    client = watch_client(kit.url)
    worker = WorkerControl(client, kit.space, "w1")
    controller = kit.controller()
    controller.turn()

    got = await worker.exchange([], {UNIT: 10_000})
    again = await worker.exchange([Usage(UNIT, 5, price_micros=9, worths={3: 5})], {UNIT: 10**9})
    kit.pass_time(15)
    controller.turn()

    assert got.orders is not None
    assert got.orders[UNIT].hold_rate == 1.0
    assert [(grant.unit_id, grant.micros) for grant in got.grants] == [(UNIT, 10_000)]
    assert again.orders is None
    assert again.grants[0].micros == 495_000, "half of what is left"
    told = kit.store.views()[UNIT].usage
    assert told is not None
    assert (told.answered, told.worths) == (5, {3: 5})
    await close(client)


async def test_an_exchange_that_failed_is_told_again_with_the_next_and_counts_once(
    kit: Kit,
) -> None:
    client = watch_client(kit.url)
    worker = WorkerControl(client, kit.space, "w1", usage_every_ms=0)
    kit.wanted = {UNIT: terms(budget=1_000_000)}
    kit.controller().turn()
    await worker.exchange([Usage(UNIT, 1)], {UNIT: 100})
    lost = worker._sequence
    worker._unsure = _Call(lost, {UNIT: 100})  # as if its answer had not come

    got = await worker.exchange([Usage(UNIT, 10)], {})

    assert kit.store.usage_totals([UNIT])[UNIT].answered == 11
    assert [grant.micros for grant in got.grants] == [100], "the same money again, not more"
    assert kit.store.money(UNIT)["held"] == 100
    await close(client)


def test_other_code_begins_the_journal_anew_with_the_first_state_that_it_makes(kit: Kit) -> None:
    run(kit, kit.controller(), 3)
    (before,) = rebuild(kit.store, kit.ledger)
    kit.store.give_back(0, "one")
    other = kit.controller("two", engine="other code")

    run(kit, other, 1)
    (at_first,) = rebuild(kit.store, kit.ledger)
    run(kit, other, 2)
    (later,) = rebuild(kit.store, kit.ledger)

    assert (before.steps, before.is_ours) == (3, True)
    assert (at_first.steps, at_first.is_same, at_first.is_ours) == (0, True, False)
    assert (later.steps, later.is_same, later.version) == (2, True, 6)


async def test_less_than_a_price_is_held_once_it_is_known_what_prices_cost(kit: Kit) -> None:
    kit.wanted = {UNIT: terms(budget=10**9)}
    client = watch_client(kit.url)
    worker = WorkerControl(client, kit.space, "w1", usage_every_ms=0)
    controller, rates = kit.controller(), []
    for _ in range(12):
        await worker.exchange([Usage(UNIT, 1_000, price_micros=10**9)], {})
        win = FeedRow(RowKind.WIN, kit.feed.at_ms, 0, 200_000)
        kit.ledger.add(kit.feed.at_ms, s1_json=[win])
        kit.publisher.copy(kit.feed.at_ms)
        kit.pass_time(15)
        controller.turn()
        rates.append(kit.store.orders()[UNIT].hold_rate)

    assert rates[:2] == [1.0, 1.0], "wins may still be told"
    assert rates == sorted(rates, reverse=True)
    assert 0.25 <= rates[-1] < 0.45, "a fifth and a quarter more, while the newest are unknown"
    await close(client)


def test_a_journal_goes_back_to_the_checkpoint_before_the_last(kit: Kit) -> None:
    run(kit, kit.controller(), 2)
    order, view = kit.store.orders()[UNIT], kit.store.views()[UNIT]
    fence, versions = kit.store.take(0, "one"), (3, 4, 5, 6, 7, 8, 9)
    kit.store.checkpoint_steps = 3

    for version in versions:
        state = b"state %d" % version
        kit.store.save(0, fence, [Saved(UNIT, version, state, b"%d" % version, order, view)], 9)

    assert kit.store.base(UNIT) == b"state 6"
    assert kit.store.journal(UNIT) == [b"7", b"8", b"9"]


def test_a_unit_whose_cost_is_reported_by_the_hour_steps_with_its_reports(kit: Kit) -> None:
    controller = kit.controller()
    run(kit, controller, 2)
    kit.ledger.add(kit.feed.at_ms, s1_json=[FeedRow(RowKind.REPORT, kit.feed.at_ms, 0, 9_000)])
    kit.publisher.copy(kit.feed.at_ms)
    kit.pass_time(15)
    stepped = [controller.turn()]
    for seconds in (15, 3_000, 600):
        kit.tell()
        kit.pass_time(seconds)
        stepped.append(controller.turn())

    assert stepped == [1, 0, 0, 1]
    assert kit.store.orders()[UNIT].block.period_ms >= 3_600_000
    assert kit.kept() == kit.rebuilt()


def test_money_is_granted_no_further_ahead_than_an_hour_of_the_day(kit: Kit) -> None:
    aim = Aim(Mode.TCPA, Targets(shallow_micros=2_000_000), CostGoal.SHALLOW)
    six_hours_ago = (kit.feed.at_ms - 6 * 3_600_000) % 86_400_000
    budget = Budget(24_000_000, day_starts_ms=six_hours_ago)
    kit.wanted = {UNIT: Terms(ControlSettings(aim, budget), BidKind.CPM)}

    run(kit, kit.controller(), 1)

    assert kit.store.money(UNIT)["budget"] == pytest.approx(7_000_000, rel=0.01)
