"""A marketplace log with planted thresholds, and builders of small logs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rta_service.device_key import KeyRing, canonical_md5
from rta_service.offline.audience.build import BuildOptions, build_profiles
from rta_service.offline.audience.report import BuildReport

DAY = 86_400
AS_OF_S = 1_735_689_600  # 2025-01-01
NOW_MS = (AS_OF_S + DAY) * 1000

Row = dict[str, Any]
Rows = list[Row]


@dataclass(frozen=True)
class Built:
    rows: Rows
    report: BuildReport
    folder: Path


@pytest.fixture(scope="session")
def keys() -> KeyRing:
    return KeyRing(pepper=b"pepper", experiment_key=b"experiment")


@pytest.fixture
def key_of(keys: KeyRing) -> Callable[[str], bytes]:
    def key(device_id: str) -> bytes:
        md5 = canonical_md5(None, device_id)
        assert md5 is not None
        return keys.device_key(md5)

    return key


@pytest.fixture
def build(
    tmp_path: Path, keys: KeyRing, write_log: Callable[..., Path]
) -> Callable[..., BuildReport]:
    def run(
        rows: Rows | Path, options: BuildOptions | None = None, out: str = "snapshot"
    ) -> BuildReport:
        source = rows if isinstance(rows, Path) else write_log(rows)
        return build_profiles(source, tmp_path / out, options or BuildOptions(), keys, NOW_MS)

    return run


def _around(rng: np.random.Generator, low: float, cut: float, high: float) -> float:
    """Draw a number below, at or beyond a cut, so that the 0.8 quantile is the cut itself."""
    where = rng.choice(3, p=(0.6, 0.25, 0.15))
    ranges = ((low, cut - 0.01), (cut, cut), (cut + 0.01, high))
    return float(rng.uniform(*ranges[where]))


def _launches(rng: np.random.Generator, last_s: int, exact: int) -> list[int]:
    """Draw launch instants backwards from the last: `exact` gaps of 27 days among others."""
    others = rng.binomial(1, 0.6, exact).sum()
    gaps = [27.0] * exact
    gaps += [rng.uniform(0.1, 26.9) for _ in range(2 * exact + int(others))]
    gaps += [rng.uniform(27.1, 60) for _ in range(exact - int(others))]
    rng.shuffle(gaps)
    instants = [last_s]
    for gap in gaps:
        instants.append(instants[-1] - round(gap * DAY))
    return instants


def _payer(rng: np.random.Generator, person: int) -> Rows:
    orders = int(rng.choice((1, 2, 3, 4, 6), p=(0.35, 0.25, 0.25, 0.1, 0.05)))
    last_pay = AS_OF_S - round(_around(rng, 0.5, 18, 200) * DAY)
    launches = _launches(rng, last_pay - round(rng.uniform(0.1, 30) * DAY), orders + 1)
    exact = [b for a, b in zip(launches[1:], launches, strict=False) if b - a == 27 * DAY]
    pays = [last_pay]
    pays += [at - round(_around(rng, 0.1, 18, 26.9) * DAY) for at in exact[: orders - 1]]
    rows = [{"ts_s": at, "event": "launch"} for at in launches]
    total = round(_around(rng, 10, 2500, 9000) * 100)
    for number, at in enumerate(pays):
        order, cents = f"o{person}-{number}", total // orders
        if number == 0:
            cents += total - cents * orders
        rows.append({"ts_s": at, "event": "pay", "order_id": order, "cents": cents - cents // 3})
        rows.append({"ts_s": at, "event": "pay", "order_id": order, "cents": cents // 3 + 500})
        rows.append({"ts_s": at + 60, "event": "refund", "order_id": order, "cents": 500})
    return rows


def _visitor(rng: np.random.Generator) -> Rows:
    last = AS_OF_S - round(rng.uniform(0.1, 80) * DAY)
    rows: Rows = [{"ts_s": at, "event": "launch"} for at in _launches(rng, last, 3)]
    rows += [{"ts_s": last, "event": str(rng.choice(["view", "search", "register", "publish"]))}]
    return rows


@pytest.fixture(scope="session")
def planted() -> Rows:
    """Silent 18 d, churned 27 d, recency 18 d, frequency 3, monetary 2,500; shuffled."""
    rng = np.random.default_rng(11)
    rows: Rows = []
    for person in range(400):
        own = _payer(rng, person) if person < 300 else _visitor(rng)
        devices = [f"device-{person}-{n}" for n in range(int(rng.integers(1, 4)))]
        own.sort(key=lambda row: int(row["ts_s"]))
        for row in own:
            row["device_id"] = str(rng.choice(devices))
            row["user_id"] = f"user-{person}" if rng.random() < 0.5 else None
        for device in devices:
            of_device = [row for row in own if row["device_id"] == device]
            if of_device:
                of_device[-1]["user_id"] = f"user-{person}"
        rows += own
    rows = [rows[at] for at in rng.permutation(len(rows))]
    return [
        {
            "device_id": row["device_id"],
            "ts_ms": row["ts_s"] * 1000 + 7,
            "event": row["event"],
            "user_id": row["user_id"],
            "order_id": row.get("order_id"),
            "cents": row.get("cents"),
            "event_id": f"e{number}",
        }
        for number, row in enumerate(rows)
    ]


@pytest.fixture(scope="session")
def built(planted: Rows, keys: KeyRing, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The planted log as a snapshot, built once."""
    folder = tmp_path_factory.mktemp("planted")
    pq.write_table(pa.Table.from_pylist(planted), folder / "log.parquet")
    options = BuildOptions(as_of=date(2025, 1, 1))
    report = build_profiles(folder / "log.parquet", folder / "snapshot", options, keys, NOW_MS)
    return Built(planted, report, folder / "snapshot")
