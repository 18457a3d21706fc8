"""No feature of a training row uses anything from its impression's instant on."""

from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from numpy.typing import NDArray

from rta_service.domain.funnel import HeadSpec, Step
from rta_service.offline.events import LogOptions, clean_log
from rta_service.offline.training.impressions import STEP_CODES
from rta_service.offline.training.reading import DatasetOptions, read_dataset

START_S = 1_704_067_200
DAY_S = 86_400
PEOPLE = 30
WORDS = (
    "launch",
    "view",
    "search",
    "cart",
    "download",
    "activate",
    "register",
    "pay",
    "refund",
    "sold",
    "publish",
    "competitor_active",
    "opt_out",
    "ad_exposure",
    "ad_click",
)
HEADS = (
    HeadSpec("register", Step.REGISTER, Step.CLICK),
    HeadSpec("click", Step.CLICK, Step.EXPOSURE, window_days=1.0 / 24.0),
)

Event = dict[str, Any]


def _random_events(
    chance: np.random.Generator, person: int, span: tuple[int, int], words: tuple[str, ...] = WORDS
) -> list[Event]:
    """Anything that may happen to a person's two devices, signed in or not."""
    return [
        {
            "device_id": f"device-{person}-{chance.integers(0, 2)}",
            "user_id": f"user-{person}" if chance.random() < 0.4 else None,
            "ts_ms": int(chance.integers(*span)) * 1_000,
            "event": str(chance.choice(words)),
            "cents": int(chance.integers(0, 9_999)),
            "category": str(chance.choice(["phones", "shoes"])),
        }
        for _ in range(chance.integers(0, 12))
    ]


def _impression(person: int, at_s: int) -> list[Event]:
    """An exposure and its click; the second device is nobody's yet."""
    common = {"device_id": f"device-{person}-1", "user_id": None, "cents": 0, "category": None}
    return [
        common | {"ts_ms": at_s * 1_000, "event": "ad_exposure"},
        common | {"ts_ms": (at_s + 30) * 1_000, "event": "ad_click"},
    ]


def _known(path: Path, log: list[Event]) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Give the features of every exposure and click, by kind and impression."""
    pq.write_table(pa.Table.from_pylist(log), path)
    with closing(clean_log(path, LogOptions(as_of=date(2024, 4, 1)))) as events:
        rows = read_dataset(events, DatasetOptions(), HEADS)
    codes = [STEP_CODES[Step.EXPOSURE], STEP_CODES[Step.CLICK]]
    return {
        (int(rows.given[i]), int(rows.as_of_s[i])): rows.matrix[i]
        for i in np.flatnonzero(np.isin(rows.given, codes))
    }


@given(seed=st.integers(0, 10_000))
@settings(
    max_examples=2,
    phases=[Phase.generate],  # an example takes a second, a smaller one says no more
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_happens_from_the_impression_on_leaves_its_row_as_it_is(
    tmp_path: Path, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    end_s = START_S + 90 * DAY_S
    instants = [START_S + 40 * DAY_S + 7 * person for person in range(PEOPLE)]
    logs: tuple[list[Event], list[Event]] = ([], [])
    for person, at_s in enumerate(instants):
        past = _random_events(chance, person, (START_S, at_s))
        for log in logs:
            log.extend(past + _impression(person, at_s))
            # another impression in the same second would be this row's own
            log.extend(_random_events(chance, person, (at_s, at_s + 1), WORDS[:-2]))
            log.extend(_random_events(chance, person, (at_s + 31, end_s)))

    one, other = (_known(tmp_path / "events.parquet", log) for log in logs)

    for at_s in instants:
        for given_code in (STEP_CODES[Step.EXPOSURE], STEP_CODES[Step.CLICK]):
            key = (given_code, at_s)
            assert np.array_equal(one[key][:21], other[key][:21], equal_nan=True)


def test_the_test_would_see_an_event_a_second_before(tmp_path: Path) -> None:
    at_s = START_S + 40 * DAY_S
    before = {
        "device_id": "device-0-1",
        "user_id": None,
        "ts_ms": (at_s - 1) * 1_000,
        "event": "launch",
        "cents": 0,
        "category": None,
    }

    one = _known(tmp_path / "a.parquet", _impression(0, at_s))
    other = _known(tmp_path / "b.parquet", [*_impression(0, at_s), before])

    key = (STEP_CODES[Step.CLICK], at_s)
    assert not np.array_equal(one[key], other[key], equal_nan=True)
    assert pytest.approx(1.0) == other[key][0]
