"""A small marketplace in which interest drives clicks' outcomes, and models trained on its log."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from rta_service.features import CATEGORICAL, FEATURE_NAMES
from rta_service.offline.training.dataset import HeadRows

DAY_S = 86_400
START_S = 1_704_067_200  # 2024-01-01
DAYS = 100
PLACEMENTS = np.array(["splash", "feed", "app_store", "search_result"])
SYSTEMS = np.array(["android", "ios", "harmony"])

Ints = NDArray[np.int64]


class EventLog:
    """Collects columns of events, and writes them as one log."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []

    def add(self, event: str, person: Ints, ts_s: Ints, **more: Any) -> None:
        self.parts.append({"event": event, "person": person, "ts_s": ts_s} | more)

    def table(self, end_s: int) -> pa.Table:
        tables = [_table(part) for part in self.parts]
        table = pa.concat_tables(tables, promote_options="permissive")
        return table.filter(pa.compute.less(table["ts_ms"], end_s * 1000)).sort_by("ts_ms")


def _table(part: dict[str, Any]) -> pa.Table:
    rows = len(part["person"])
    columns = {
        "device_id": [f"device-{n}" for n in part["person"]],
        "user_id": [f"user-{n}" for n in part["person"]],
        "ts_ms": part["ts_s"] * 1000,
        "event": [part["event"]] * rows,
        "cents": part.get("cents", np.zeros(rows, np.int64)),
    }
    for name in ("channel", "placement", "os", "category"):
        if name in part:
            columns[name] = part[name]
    return pa.table(columns)


def _spread(chance: np.random.Generator, rate: NDArray[np.float64]) -> tuple[Ints, Ints]:
    """Give people (each as often as Poisson says) and instants in the log's days."""
    people = np.repeat(np.arange(len(rate)), chance.poisson(rate))
    return people, START_S + chance.integers(0, DAYS * DAY_S, len(people))


def _logistic(lean: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-lean))


def simulate(people: int, seed: int) -> pa.Table:
    """Write the log of people whose hidden interest shows in browsing and decides outcomes."""
    chance = np.random.default_rng(seed)
    interest = chance.normal(0.0, 1.0, people)
    system = SYSTEMS[chance.integers(0, 3, people)]
    log = EventLog()
    for event, rate in (("launch", 6.0), ("view", 10.0), ("ad_exposure", 4.0)):
        who, when = _spread(chance, rate * np.exp(0.6 * interest))
        log.add(event, who, when, category=np.array(["phones", "shoes"])[who % 2])
    who, when = _spread(chance, np.full(people, 5.0))
    place = PLACEMENTS[chance.integers(0, 4, len(who))]
    context = {"placement": place, "os": system[who], "channel": np.full(len(who), "tencent")}
    log.add("ad_exposure", who, when - chance.integers(5, 900, len(who)))
    log.add("ad_click", who, when, **context)
    lean = interest[who] + 0.8 * (place == "search_result")
    acts = chance.random(len(who)) < _logistic(lean - 0.5)
    soon = when + chance.integers(10, 3_600, len(who))
    log.add("activate", who[acts], soon[acts])
    joins = acts & (chance.random(len(who)) < _logistic(lean - 0.8))
    joined_at = _first_per_person(who[joins], soon[joins] + chance.integers(0, DAY_S, joins.sum()))
    log.add("register", *joined_at)
    buys = joins & (chance.random(len(who)) < _logistic(1.5 * lean - 0.6))
    paid_at = soon[buys] + (chance.exponential(2.0, buys.sum()) * DAY_S).astype(np.int64) + DAY_S
    log.add("pay", who[buys], paid_at, cents=chance.integers(100, 50_000, buys.sum()))
    return log.table(START_S + DAYS * DAY_S)


def _first_per_person(who: Ints, when: Ints) -> tuple[Ints, Ints]:
    order = np.argsort(when, kind="stable")
    people, first = np.unique(who[order], return_index=True)
    return people, when[order][first]


@pytest.fixture(scope="session")
def market() -> pa.Table:
    return simulate(3_000, seed=5)


@pytest.fixture(scope="session")
def market_log(market: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("market") / "events.parquet"
    pq.write_table(market, path)
    return path


WriteLog = Callable[[list[tuple[Any, ...]]], Path]


@pytest.fixture
def write_log(tmp_path: Path) -> WriteLog:
    """Writes rows of (person, seconds after the start, event, cents?, more columns?)."""

    def write(rows: list[tuple[Any, ...]]) -> Path:
        path = tmp_path / "events.parquet"
        told = [
            {
                "device_id": f"device-{person}",
                "user_id": f"user-{person}",
                "ts_ms": (START_S + after_s) * 1000,
                "event": event,
                "cents": 0,
                "channel": None,
                "placement": None,
                "os": None,
                "category": None,
            }
            | (more[0] if more else {})
            for person, after_s, event, *more in rows
        ]
        pq.write_table(pa.Table.from_pylist(told), path)
        return path

    return write


@pytest.fixture(scope="session", name="simulate")
def simulate_fixture() -> Callable[..., pa.Table]:
    return simulate


MakeRows = Callable[..., HeadRows]


@pytest.fixture(scope="session")
def make_rows() -> MakeRows:
    """Makes rows of `days` days whose odds hang on two features, ending at the log's end.

    Goals follow after an exponential delay of `delay_days` within a window of `window_days`; `rate`
    moves the odds, `drift` moves them from the first day to the last.
    """

    def make(
        rows: int = 4_000,
        *,
        seed: int = 1,
        days: int = 60,
        rate: float = -1.5,
        drift: float = 0.0,
        delay_days: float = 1.0,
        window_days: float = 7.0,
        is_value: bool = False,
    ) -> HeadRows:
        chance = np.random.default_rng(seed)
        matrix = chance.normal(5.0, 2.0, (rows, len(FEATURE_NAMES)))
        matrix[:, CATEGORICAL] = chance.integers(0, 4, (rows, len(CATEGORICAL)))
        t_s = np.sort(START_S + chance.integers(0, days * DAY_S, rows))
        age = (t_s - START_S) / (days * DAY_S)
        lean = rate + drift * age + 0.5 * (matrix[:, 1] - 5.0) + 0.8 * (matrix[:, 23] == 2)
        hit = chance.random(rows) < _logistic(lean)
        window_s = round(window_days * DAY_S)
        delay_s = (chance.exponential(delay_days * DAY_S, rows)).astype(np.int64) % window_s
        amounts = np.rint(chance.gamma(2.0, 2e7 * np.exp(0.2 * matrix[:, 1])))
        return HeadRows(
            matrix=matrix,
            labels=amounts if is_value else hit.astype(np.float64),
            as_of_s=t_s,
            t_s=t_s,
            known_s=t_s + window_s,
            delay_s=np.where(hit, delay_s, -1),
            stages=chance.integers(0, 6, rows),
            tiers=chance.integers(0, 7, rows),
            drawn=np.ones(rows, dtype=np.bool_),
            negatives_kept=1.0,
            is_value=is_value,
            dropped={"unmatured": 0},
        )

    return make
