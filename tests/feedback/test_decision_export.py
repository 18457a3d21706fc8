"""Recorded decisions as a Parquet file, by the real command over a real store."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from rta_service.domain.decision import Arm, Bid, Prediction, Steered, Versions
from rta_service.domain.decision_record import DecisionRecord, Ghost
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.stores.decision_records import DecisionRecordLog
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.redis import admin_client

PLAIN = DecisionRecord(1, "json", 1, 2, "s", False, ReasonCode.OPTED_OUT, 0.5)
FULL = DecisionRecord(
    ts_ms=2,
    platform="tencent",
    request=2**64 - 1,
    person=2**63 + 1,
    strategy_id="wake",
    participate=True,
    reason=ReasonCode.HOLDOUT,
    propensity=0.01,
    bid=Bid(BidKind.CPM, 12_000_000, "CNY"),
    pcvr=Prediction(0.03, 0.01),
    versions=Versions("r1", "s1", {"trade": "v1"}, "st"),
    stage=LifecycleStage.SILENT,
    tier=ValueTier.A,
    arm=Arm.CANARY,
    tag="t" * 36,
    ghost=Ghost(ReasonCode.WOKEN, True, Bid(BidKind.WEIGHT, 1.25), Prediction(0.02, 0.01)),
    steered=Steered(7, 1.1, 2.5),
)


def export(store: EmbeddedStore, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rta_service", "decisions", "export", str(out), "--json"]
    command += ["--redis-url", store.url, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_all_recorded_decisions_become_rows_and_may_be_dropped(
    own_store: EmbeddedStore, tmp_path: Path
) -> None:
    out = tmp_path / "decisions.parquet"
    with admin_client(own_store.url) as client:
        log = DecisionRecordLog(client, "rta")
        log.append([PLAIN, FULL])

        run = export(own_store, out, "--drop")

        assert json.loads(run.stdout) == {"file": str(out), "decisions": 2, "dropped": 2}
        assert log.length() == 0
    plain, full = pq.read_table(out).to_pylist()
    assert (plain["reason"], plain["bid_value"], plain["ghost_reason"]) == ("opted_out", None, None)
    assert (full["request"], full["person"], full["models"]) == (
        2**64 - 1, 2**63 + 1, '{"trade":"v1"}'
    )  # fmt: skip
    assert (full["bid_kind"], full["bid_value"], full["p_trade"]) == ("cpm", 12_000_000, 0.01)
    assert (full["ghost_bid_value"], full["ghost_p_register"]) == (1.25, 0.02)
    assert (full["steered_version"], full["steered_factor"]) == (7, 1.1)


def test_a_file_that_exists_is_left_alone(own_store: EmbeddedStore, tmp_path: Path) -> None:
    out = tmp_path / "decisions.parquet"
    out.write_text("something of mine")

    run = export(own_store, out)

    assert run.returncode == 2
    assert "exists already" in run.stderr
    assert out.read_text() == "something of mine"
