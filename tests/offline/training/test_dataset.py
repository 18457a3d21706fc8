"""A training row knows what was known at its impression, and is told what came of it."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from rta_service.device_key import KeyRing
from rta_service.domain.funnel import HeadSpec, Step
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.features import FEATURE_NAMES, Rows, matrix
from rta_service.offline.audience.build import BuildOptions, build_profiles
from rta_service.offline.events import LogOptions, clean_log
from rta_service.offline.training.dataset import Dataset, HeadRows
from rta_service.offline.training.impressions import STEP_CODES
from rta_service.offline.training.reading import DatasetOptions, read_dataset
from rta_service.snapshot_folder import read_arrays

WriteLog = Callable[[list[tuple[Any, ...]]], Path]
Simulate = Callable[..., pa.Table]

REGISTER = HeadSpec("register", Step.REGISTER, Step.CLICK)
TRADE = HeadSpec("trade", Step.TRADE, Step.CLICK, window_days=14.0)
REGISTER_GIVEN_ACTIVATE = HeadSpec("register_given_activate", Step.REGISTER, Step.ACTIVATE)
TRADE_GIVEN_REGISTER = HeadSpec("t", Step.TRADE, Step.REGISTER, window_days=14.0)
CLICK = HeadSpec("click", Step.CLICK, Step.EXPOSURE, window_days=1.0 / 24.0)
VALUE = HeadSpec("value", Step.TRADE, Step.TRADE, kind="value", window_days=14.0)
ALL = (REGISTER, TRADE, REGISTER_GIVEN_ACTIVATE, TRADE_GIVEN_REGISTER)
START_S = 1_704_067_200
HOUR = 3_600
DAY = 86_400
END = date(2024, 3, 31)  # 90 days after the start


def _dataset(
    path: Path,
    options: DatasetOptions | None = None,
    heads: tuple[HeadSpec, ...] = ALL,
) -> Dataset:
    with closing(clean_log(path, LogOptions(as_of=END))) as log:
        return read_dataset(log, options or DatasetOptions(), heads)


def _feature(rows: Dataset | HeadRows, name: str) -> list[float]:
    values: list[float] = rows.matrix[:, FEATURE_NAMES.index(name)].tolist()
    return values


def test_a_click_is_seen_from_its_impression(write_log: WriteLog) -> None:
    log = write_log(
        [
            ("ann", 0, "launch"),
            ("ann", DAY, "ad_exposure"),
            ("ann", DAY + 50, "ad_exposure"),
            ("ann", DAY + 55, "launch"),
            ("ann", DAY + 60, "ad_click"),
        ]
    )

    rows = _dataset(log)

    assert rows.as_of_s.tolist() == [START_S + DAY + 50]
    assert _feature(rows, "launches") == [1.0]
    assert _feature(rows, "ad_exposures") == [1.0]


def test_an_exposure_of_long_ago_or_of_someone_else_is_no_impression(write_log: WriteLog) -> None:
    log = write_log(
        [
            ("ann", 0, "ad_exposure"),
            ("bob", 2 * HOUR - 5, "ad_exposure"),
            ("ann", 2 * HOUR, "ad_click"),
        ]
    )

    assert _dataset(log).as_of_s.tolist() == [START_S + 2 * HOUR]


def test_a_stranger_is_the_zero_row(write_log: WriteLog) -> None:
    log = write_log([("ann", 0, "ad_exposure"), ("ann", 5, "ad_click")])

    rows = _dataset(log)

    assert _feature(rows, "known") == [0.0]
    assert np.isnan(_feature(rows, "idle_days")).all()


def test_the_context_is_in_model_codes(write_log: WriteLog) -> None:
    told = {"channel": "tencent", "os": "iOS", "placement": "feed"}
    odd = {"channel": "billboard", "os": "beos", "placement": "moon"}
    log = write_log(
        [("ann", 0, "ad_click", told), ("bob", 1, "ad_click", odd), ("cat", 2, "ad_click")]
    )

    rows = _dataset(log)

    assert _feature(rows, "platform") == [2.0, 0.0, 0.0]
    assert _feature(rows, "os") == [2.0, 0.0, 0.0]
    assert _feature(rows, "placement") == [5.0, 6.0, 0.0]


OUTCOMES = (
    ("register", 0, REGISTER, True),
    ("register", 7 * DAY, REGISTER, True),
    ("register", 7 * DAY + 1, REGISTER, False),
    ("pay", 0, TRADE, False),
    ("pay", 14 * DAY, TRADE, True),
    ("sold", 1, TRADE, True),
    ("pay", 14 * DAY + 1, TRADE, False),
    ("publish", 1, TRADE, False),
)


def test_a_goal_counts_within_its_window(write_log: WriteLog) -> None:
    clicks = [(f"p{n}", n, "ad_click") for n in range(len(OUTCOMES))]
    goals = [(f"p{n}", n + after, event) for n, (event, after, *_) in enumerate(OUTCOMES)]

    rows = _dataset(write_log(clicks + goals))

    found = {head.name: rows.head_rows(head) for head in (REGISTER, TRADE)}
    assert [found[head.name].labels[n] for n, (*_, head, _) in enumerate(OUTCOMES)] == [
        label for *_, label in OUTCOMES
    ]
    assert found["trade"].delay_s.tolist()[3:6] == [-1, 14 * DAY, 1]


def test_the_first_trade_after_the_click_is_the_one_that_counts(write_log: WriteLog) -> None:
    log = write_log(
        [
            ("ann", 0, "pay"),
            ("ann", DAY, "ad_click"),
            ("ann", 2 * DAY, "pay"),
            ("ann", 40 * DAY, "pay"),
            ("bob", DAY, "pay"),
        ]
    )

    assert _dataset(log).head_rows(TRADE).labels.tolist() == [1.0]


def test_a_click_whose_window_is_not_over_is_a_fresh_row_and_counted(write_log: WriteLog) -> None:
    log = write_log(
        [
            ("ann", 83 * DAY, "ad_click"),
            ("bob", 83 * DAY + 1, "ad_click"),
            ("bob", 84 * DAY, "register"),
            ("cat", 89 * DAY, "ad_click"),
        ]
    )

    dataset = _dataset(log)

    rows, fresh = dataset.head_rows(REGISTER), dataset.fresh_rows(REGISTER)
    assert len(rows) == 1
    assert rows.dropped == {"unmatured": 2, "already_registered": 0}
    assert fresh.labels.tolist() == [1.0, 0.0]
    assert fresh.delay_s.tolist() == [DAY - 1, -1]
    assert fresh.known_s.tolist() == [START_S + 90 * DAY + 1, START_S + 96 * DAY]


def test_someone_already_registered_is_no_row_of_a_register_head(write_log: WriteLog) -> None:
    log = write_log([("ann", 0, "register"), ("ann", DAY, "ad_click")])

    rows = _dataset(log)

    assert rows.head_rows(REGISTER).dropped["already_registered"] == 1
    assert len(rows.head_rows(TRADE).labels) == 1


def test_a_device_counts_as_its_persons_once_the_log_has_told_so(write_log: WriteLog) -> None:
    phone, signed_in = {"device_id": "phone", "user_id": None}, {"device_id": "phone"}
    log = write_log(
        [
            ("ann", 0, "launch"),
            ("ann", 1, "launch", phone),
            ("ann", 2, "launch", phone),
            ("ann", HOUR, "ad_click", phone),
            ("ann", 2 * HOUR, "register", signed_in),
            ("ann", DAY, "ad_click", signed_in),
        ]
    )

    rows = _dataset(log)

    clicks = rows.given == STEP_CODES[Step.CLICK]
    assert np.array(_feature(rows, "launches"))[clicks].tolist() == [2.0, 3.0]
    assert rows.head_rows(REGISTER).labels.tolist() == [1.0]


def test_a_registration_that_the_service_could_not_know_of_leaves_a_lost_click(
    write_log: WriteLog,
) -> None:
    stranger, later = {"device_id": "phone", "user_id": None}, {"device_id": "phone"}
    log = write_log(
        [
            ("ann", 0, "register"),
            ("ann", DAY, "ad_click", stranger),
            ("ann", 2 * DAY, "launch", later),
        ]
    )

    rows = _dataset(log).head_rows(REGISTER)

    assert rows.labels.tolist() == [0.0]


def test_an_activation_is_seen_from_the_latest_clicks_impression(write_log: WriteLog) -> None:
    feed, splash = {"placement": "feed"}, {"placement": "splash"}
    log = write_log(
        [
            ("ann", 0, "ad_click", splash),
            ("ann", DAY - 5, "ad_exposure"),
            ("ann", DAY, "ad_click", feed),
            ("ann", DAY + 10, "download"),
            ("ann", DAY + 20, "activate"),
            ("ann", DAY + 90, "register"),
        ]
    )

    rows = _dataset(log).head_rows(REGISTER_GIVEN_ACTIVATE)

    assert rows.as_of_s.tolist() == [START_S + DAY - 5]
    assert _feature(rows, "placement") == [5.0]
    assert np.isnan(_feature(rows, "downloaded_days")).all()
    assert rows.labels.tolist() == [1.0]


def test_a_registration_that_no_click_led_to_is_counted_and_no_row(write_log: WriteLog) -> None:
    log = write_log(
        [
            ("ann", 0, "ad_click"),
            ("ann", DAY, "register"),
            ("bob", 0, "ad_click"),
            ("bob", 8 * DAY, "register"),
            ("cat", 0, "register"),
        ]
    )

    rows = _dataset(log)

    assert len(rows.head_rows(TRADE_GIVEN_REGISTER).labels) == 1
    assert rows.unattributed == 2


def test_a_log_without_clicks_has_no_rows(write_log: WriteLog) -> None:
    rows = _dataset(write_log([("ann", 0, "launch")]))

    assert rows.matrix.shape == (0, len(FEATURE_NAMES))


def test_an_exposure_is_a_row_and_a_click_belongs_to_the_latest(write_log: WriteLog) -> None:
    told = {"channel": "tencent", "os": "ios"}
    log = write_log(
        [
            ("ann", 0, "launch"),
            ("ann", DAY, "ad_exposure", told),
            ("ann", DAY + 50, "ad_exposure", told),
            ("ann", DAY + 60, "ad_click"),
            ("bob", DAY, "ad_exposure"),
            ("bob", DAY + 7_200, "ad_click"),
        ]
    )

    dataset = _dataset(log, heads=(REGISTER, CLICK))

    rows = dataset.head_rows(CLICK)
    assert (rows.as_of_s - START_S).tolist() == [DAY, DAY, DAY + 50]
    assert sorted(rows.labels.tolist()) == [0.0, 0.0, 1.0]
    assert rows.labels[2] == 1.0
    assert _feature(rows, "platform")[2] == 2.0
    assert _feature(rows, "ad_exposures")[2] == 1.0
    assert rows.dropped == {"unmatured": 0}


def test_of_many_exposures_those_with_a_click_are_kept_and_the_others_sampled(
    market_log: Path,
) -> None:
    few = DatasetOptions(max_rows=10, max_exposures=2_000, until_s=START_S + 80 * DAY)
    exposed = _dataset(market_log, few, heads=(TRADE, CLICK))
    rows, all_rows = exposed.head_rows(CLICK), exposed.exposures_share

    fair = rows.fair
    assert rows.negatives_kept == all_rows < 0.15
    assert 0.9 < len(fair) / 2_000 < 1.1
    assert rows.positives > 5 * fair.positives > 0
    assert len(rows) - rows.positives == len(fair) - fair.positives
    assert exposed.as_of_s.max() < START_S + 80 * DAY


def test_a_trade_is_worth_what_was_paid_in_its_second_within_the_window(
    write_log: WriteLog,
) -> None:
    log = write_log(
        [
            ("ann", 0, "ad_click"),
            ("ann", DAY, "pay", {"cents": 150}),
            ("ann", DAY, "pay", {"cents": 50}),
            ("ann", 2 * DAY, "pay"),
            ("ann", 3 * DAY, "refund", {"cents": 50}),
            ("ann", 13 * DAY, "pay", {"cents": 700}),
            ("ann", 15 * DAY, "pay", {"cents": 900}),
            ("bob", 80 * DAY, "ad_click"),
            ("bob", 81 * DAY, "pay", {"cents": 900}),
            ("cat", DAY, "pay", {"cents": 900}),
        ]
    )

    dataset = _dataset(log, heads=(REGISTER, VALUE))

    rows = dataset.head_rows(VALUE)
    assert rows.labels.tolist() == [2_000_000.0, 7_000_000.0]
    assert rows.as_of_s.tolist() == [START_S, START_S]
    assert rows.is_value
    assert rows.dropped == {"unmatured": 1}


def test_other_steps_can_be_asked_about(write_log: WriteLog) -> None:
    activate = HeadSpec("activate", Step.ACTIVATE, Step.DOWNLOAD, window_days=3.0)
    log = write_log(
        [
            ("ann", 0, "ad_click"),
            ("ann", 10, "download"),
            ("ann", 2 * DAY, "activate"),
            ("bob", 0, "activate"),
            ("bob", DAY, "ad_click"),
            ("bob", DAY + 10, "download"),
            ("cat", 0, "ad_click"),
            ("cat", 20, "download"),
        ]
    )

    rows = _dataset(log, heads=(activate,)).head_rows(activate)

    assert rows.labels.tolist() == [1.0, 0.0]
    assert rows.dropped == {"unmatured": 0, "already_activated": 1}


def test_a_row_has_the_stage_and_tier_of_its_impression(write_log: WriteLog) -> None:
    payers = [(f"p{n}", n, "pay", {"cents": 100 * n}) for n in range(1, 21)]
    gaps = [(f"p{n}", n + DAY * after, "launch") for n in range(1, 21) for after in (1, 11, 21)]
    clicks = [("p20", 2 * DAY, "ad_click"), ("p20", 80 * DAY, "ad_click"), ("new", 0, "ad_click")]

    rows = _dataset(write_log([*payers, *gaps, *clicks])).head_rows(TRADE)
    bare = _dataset(write_log(clicks)).head_rows(TRADE)

    growth, churned = LifecycleStage.GROWTH, LifecycleStage.CHURNED
    assert dict(zip(rows.as_of_s - START_S, rows.stages, strict=True)) == {
        0: LifecycleStage.UNKNOWN,
        2 * DAY: growth,
    }
    assert rows.tiers.tolist() == [ValueTier.UNKNOWN, ValueTier.S]
    assert set(bare.stages) == {LifecycleStage.UNKNOWN}
    assert churned not in rows.stages


def test_a_big_log_is_sampled_alike_every_time(market_log: Path) -> None:
    options = DatasetOptions(max_rows=2_000)

    first, second = _dataset(market_log, options), _dataset(market_log, options)

    assert 0.9 < len(first.t_s) / 2_000 < 1.1
    assert first.sampled_share < 0.2
    assert first.t_s.tolist() == second.t_s.tolist()
    assert first.unattributed == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_that_happens_later_changes_what_a_row_knows(
    simulate: Simulate, tmp_path: Path, seed: int
) -> None:
    one, other = simulate(200, seed), simulate(200, seed + 100)
    cut_s = START_S + 60 * DAY + 7 * seed
    past = one.filter(pc.less(one["ts_ms"], cut_s * 1_000))
    future = other.filter(pc.greater_equal(other["ts_ms"], cut_s * 1_000))
    for name, log in (("a", one), ("b", pa.concat_tables([past, future]))):
        pq.write_table(log, tmp_path / f"{name}.parquet")

    rows = [_dataset(tmp_path / f"{name}.parquet", heads=(REGISTER, CLICK)) for name in "ab"]

    known = [_known_before(dataset, cut_s) for dataset in rows]
    assert len(known[0]) > 300
    assert np.array_equal(known[0], known[1], equal_nan=True)


def _known_before(rows: Dataset, cut_s: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    early = (rows.t_s < cut_s) & (rows.given <= STEP_CODES[Step.CLICK])
    return np.column_stack([rows.as_of_s[early], rows.t_s[early], rows.matrix[early]])


def test_a_row_at_the_snapshots_instant_is_what_the_service_would_score(
    simulate: Simulate, tmp_path: Path
) -> None:
    at_s = START_S + 80 * DAY
    people = [f"device-{n}" for n in range(150)]
    clicks = pa.table(
        {
            "device_id": people,
            "user_id": [name.replace("device", "user") for name in people],
            "ts_ms": [at_s * 1_000] * len(people),
            "event": ["ad_click"] * len(people),
        }
    )
    history = simulate(150, 9)
    quiet = history.filter(
        pc.invert(
            pc.and_(
                pc.equal(history["event"], "ad_exposure"),
                pc.greater(history["ts_ms"], (at_s - HOUR) * 1_000),
            )
        )
    )
    path = tmp_path / "events.parquet"
    pq.write_table(pa.concat_tables([quiet, clicks], promote_options="default"), path)
    keys = KeyRing(b"pepper", b"experiment")
    as_of = datetime.fromtimestamp(at_s, UTC).date()

    report = build_profiles(path, tmp_path / "snapshot", BuildOptions(as_of=as_of), keys, 1)

    rows = _dataset(path)
    chosen = (rows.t_s == at_s) & (rows.given == STEP_CODES[Step.CLICK])
    _, records = read_arrays(tmp_path / "snapshot", report.manifest)
    zeros = np.zeros(len(records), dtype=np.int64)
    served = matrix(Rows(records, zeros + at_s, zeros, zeros, zeros))
    known = rows.matrix[chosen & (rows.matrix[:, 0] == 1)]
    assert len(known) == len(served) > 140
    assert np.array_equal(_sorted(known), _sorted(served), equal_nan=True)


def _sorted(
    rows: np.ndarray[Any, np.dtype[np.float64]],
) -> np.ndarray[Any, np.dtype[np.float64]]:
    return rows[np.lexsort(np.nan_to_num(rows, nan=-1.0).T)]
