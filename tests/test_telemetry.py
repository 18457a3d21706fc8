import math
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, strategies as st
from prometheus_client.parser import text_string_to_metric_families

from rta_service.domain.decision import Arm, Bid, Decision, StrategyDecision
from rta_service.domain.device import IdKind
from rta_service.domain.errors import (
    DeadlineExceeded,
    InvalidInput,
    SnapshotMissing,
    StoreUnavailable,
)
from rta_service.domain.platform import PLATFORM_CODES, BidKind, PlatformInfo
from rta_service.domain.reason import PARTICIPATING, ReasonCode
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.telemetry import SkewAlarm, Telemetry, document, exposition, read_all
from rta_service.telemetry.cells import metrics_folder
from rta_service.telemetry.registry import (
    ARM_DECISIONS,
    CELLS,
    DECISIONS,
    IDS_MATCHED,
    IDS_SEEN,
    INTERNAL_ERRORS,
    LATENCY_BOUNDS_S,
    METRICS,
    PREFIX,
    REQUESTS,
    SHED,
    STORE_ERRORS,
    WEIGHT,
    WORKER_RESTARTS,
)

SCRAPES = """
import pathlib, sys, timeit; from rta_service.telemetry import exposition
run_dir = pathlib.Path(sys.argv[1])
print(min(timeit.repeat(lambda: exposition(run_dir, 0), number=1, repeat=20)))
"""
DOCS = Path(__file__).parents[1] / "docs"


def a_platform(name: str = "json") -> PlatformInfo:
    facts = ("application/json", 60, 65_536, 60, 3600, (BidKind.WEIGHT,), 0.1, 10.0, "")
    return PlatformInfo(name, f"/rta/{name}", *facts)


def a_decision(
    reason: ReasonCode = ReasonCode.ACCEPTED,
    stage: LifecycleStage = LifecycleStage.GROWTH,
    tier: ValueTier = ValueTier.A,
    bids: tuple[Bid | None, ...] = (),
) -> Decision:
    yes = reason in PARTICIPATING
    strategies = tuple(StrategyDecision("s1", "t1", reason, yes, bid) for bid in bids)
    return Decision("r1", yes, reason, strategies, 60, stage=stage, tier=tier)


def scraped(run_dir: Path, now_ms: int = 0) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = exposition(run_dir, now_ms).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def series(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


@pytest.fixture
def telemetry(tmp_path: Path) -> Telemetry:
    return Telemetry.open(tmp_path, "decision-0")


decided = st.tuples(
    st.sampled_from(("decision-0", "decision-1", "decision-2")),
    st.sampled_from(sorted(PLATFORM_CODES)),
    st.sampled_from(LifecycleStage),
    st.sampled_from(ValueTier),
    st.sampled_from(ReasonCode),
)


@given(st.lists(decided, max_size=60))
def test_totals_are_what_all_processes_counted(
    counted: list[tuple[str, str, LifecycleStage, ValueTier, ReasonCode]],
) -> None:
    with TemporaryDirectory() as folder:
        run_dir = Path(folder)
        processes = {name: Telemetry.open(run_dir, name) for name in {c[0] for c in counted}}

        for process, platform, stage, tier, reason in counted:
            processes[process].count_decision(a_decision(reason, stage, tier), a_platform(platform))

        totals = read_all(run_dir)
        expected = Counter((p, s.label, t.label, r.label) for _, p, s, t, r in counted)
        outcomes = Counter(
            (p, "participate" if r in PARTICIPATING else "decline") for _, p, _, _, r in counted
        )
        reasons = Counter((r.label, p) for _, p, _, _, r in counted)
        assert totals.counts(DECISIONS, *DECISIONS.label_names) == expected
        assert totals.counts(REQUESTS, "platform", "outcome") == outcomes
        assert totals.counts(DECISIONS, "reason", "platform") == reasons
        assert sum(totals.counts(DECISIONS).values()) == len(counted)


def test_a_killed_process_leaves_its_counts_and_the_next_of_its_name_goes_on(
    tmp_path: Path,
) -> None:
    code = (
        "import pathlib, sys, time; from rta_service.telemetry import Telemetry\n"
        "telemetry = Telemetry.open(pathlib.Path(sys.argv[1]), 'decision-0')\n"
        "telemetry.count_shed(7); telemetry.set_breaker(is_open=True)\n"
        "print('counted', flush=True); time.sleep(60)"
    )
    command = (sys.executable, "-c", code, str(tmp_path))

    while_alive = {}
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            while_alive = scraped(tmp_path)
            process.send_signal(signal.SIGKILL)

    breaker = series("rta_breaker_open", process="decision-0")
    assert read_all(tmp_path).counts(SHED) == {(): 14.0}
    assert while_alive[breaker] == 1.0
    assert breaker not in scraped(tmp_path)
    assert [path.name for path in metrics_folder(tmp_path).iterdir()] == ["decision-0.cells"]


def test_gauges_of_an_earlier_process_are_forgotten_and_counters_are_not(
    tmp_path: Path, telemetry: Telemetry
) -> None:
    telemetry.count_shed()
    telemetry.set_breaker(is_open=True)
    telemetry.close()

    Telemetry.open(tmp_path, "decision-0").count_shed()

    found = scraped(tmp_path)
    assert found[series("rta_shed_total")] == 2.0
    assert series("rta_breaker_open", process="decision-0") not in found


def test_files_of_another_version_are_ignored_with_a_note(
    tmp_path: Path, telemetry: Telemetry
) -> None:
    telemetry.count_shed()
    folder = metrics_folder(tmp_path)
    foreign = bytearray((folder / "decision-0.cells").read_bytes())
    foreign[8] ^= 1
    (folder / "old.cells").write_bytes(foreign)
    (folder / "cut.cells").write_bytes(foreign[:10])

    totals = read_all(tmp_path)

    assert totals.counts(SHED) == {(): 1.0}
    assert totals.ignored == (
        "cut.cells: shorter than its header",
        "old.cells: written by another version of the service",
    )
    assert scraped(tmp_path)[series("rta_metric_files_ignored")] == 2.0


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"x" * (64 + 8 * CELLS)])
def test_a_process_replaces_its_file_when_it_is_of_another_version(
    tmp_path: Path, content: bytes
) -> None:
    folder = metrics_folder(tmp_path)
    folder.mkdir()
    (folder / "decision-0.cells").write_bytes(content)

    Telemetry.open(tmp_path, "decision-0").count_shed()

    assert read_all(tmp_path).counts(SHED) == {(): 1.0}


def test_a_process_name_must_be_fit_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="escape: a process name"):
        Telemetry.open(tmp_path, "../escape")


def test_before_anything_was_counted_there_is_nothing_to_derive(tmp_path: Path) -> None:
    totals = read_all(tmp_path)

    assert totals.participation_shares() == {}
    assert totals.match_rates() == {}
    assert totals.mean_weights() == {}
    assert math.isnan(totals.latency_quantile("total", 0.99))


def test_the_participation_share_leaves_out_probes_and_unreadable_requests(
    tmp_path: Path, telemetry: Telemetry
) -> None:
    for reason in (ReasonCode.WOKEN, ReasonCode.HOLDOUT, ReasonCode.NEVER_BID, ReasonCode.PING):
        telemetry.count_decision(a_decision(reason), a_platform())
    telemetry.count_invalid(a_platform())

    found = scraped(tmp_path)

    assert found[series("rta_participation_share", platform="json")] == pytest.approx(1 / 3)
    assert series("rta_participation_share", platform="tencent") not in found
    assert found[series("rta_requests_total", platform="json", outcome="invalid")] == 1.0


def test_the_mean_weight_by_tier_counts_weights_and_no_prices(
    tmp_path: Path, telemetry: Telemetry
) -> None:
    weights = (Bid(BidKind.WEIGHT, 0.5), Bid(BidKind.WEIGHT, 1.0), Bid(BidKind.CPC, 9e6), None)

    telemetry.count_decision(a_decision(bids=weights), a_platform())
    telemetry.count_decision(a_decision(bids=weights[:1]), a_platform("tencent"))

    totals, found = read_all(tmp_path), scraped(tmp_path)
    assert found[series("rta_weight_sum", platform="json", tier="A")] == 1.5
    assert found[series("rta_weight_count", platform="json", tier="A")] == 2.0
    assert totals.mean_weights() == {"A": pytest.approx(2 / 3)}
    assert totals.counts(WEIGHT, "platform") == {("json",): 2.0, ("tencent",): 1.0}


def test_match_rates_are_by_the_kind_of_id(tmp_path: Path, telemetry: Telemetry) -> None:
    telemetry.count_ids([IdKind.OAID, IdKind.IMEI], [IdKind.OAID])
    telemetry.count_ids([IdKind.OAID], [])

    totals = read_all(tmp_path)

    assert totals.match_rates() == {"oaid": 0.5, "imei": 0.0}
    assert totals.counts(IDS_SEEN) == {(): 3.0}
    assert totals.counts(IDS_MATCHED, "kind") == {("oaid",): 1.0}


@given(st.lists(st.floats(1e-7, 3.0), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(latencies: list[float], q: float) -> None:
    with TemporaryDirectory() as folder:
        telemetry = Telemetry.open(Path(folder), "decision-0")

        for seconds in latencies:
            telemetry.observe("read", seconds)

        true = sorted(latencies)[max(math.ceil(q * len(latencies)) - 1, 0)]
        upper = next((b for b in LATENCY_BOUNDS_S if b >= true), LATENCY_BOUNDS_S[-1])
        lower = max((b for b in LATENCY_BOUNDS_S if b < true), default=0.0)
        estimated = read_all(Path(folder)).latency_quantile("read", q)
        assert min(lower, upper) * (1 - 1e-9) <= estimated <= upper * (1 + 1e-9)


def test_histograms_are_cumulative_with_sum_and_count(tmp_path: Path, telemetry: Telemetry) -> None:
    for rows in (1, 2, 3, 5000):
        telemetry.observe_batch(rows)

    found = scraped(tmp_path)

    assert found[series("rta_batch_rows_bucket", le="2.0")] == 2.0
    assert found[series("rta_batch_rows_bucket", le="4.0")] == 3.0
    assert found[series("rta_batch_rows_bucket", le="1024.0")] == 3.0
    assert found[series("rta_batch_rows_bucket", le="+Inf")] == 4.0
    assert found[series("rta_batch_rows_count")] == 4.0
    assert found[series("rta_batch_rows_sum")] == 5006.0


def test_a_bound_belongs_to_its_bucket(tmp_path: Path, telemetry: Telemetry) -> None:
    telemetry.observe("total", 0.06)
    telemetry.observe("total", 0.0601)

    found = scraped(tmp_path)

    in_time = series("rta_stage_latency_seconds_bucket", stage="total", le="0.06")
    assert found[in_time] == 1.0


def test_an_unknown_step_is_a_bug_and_says_so(telemetry: Telemetry) -> None:
    with pytest.raises(KeyError, match="reed"):
        telemetry.observe("reed", 0.001)


def test_failures_of_a_batch_are_counted_by_who_is_to_blame(
    tmp_path: Path, telemetry: Telemetry
) -> None:
    for error in (SnapshotMissing(), StoreUnavailable(), DeadlineExceeded(), ZeroDivisionError()):
        telemetry.count_failure(error)
    telemetry.count_store_error("a new kind")

    totals = read_all(tmp_path)

    assert totals.counts(INTERNAL_ERRORS, "place") == {("pipeline",): 1.0}
    assert totals.counts(STORE_ERRORS, "kind") == {
        ("other",): 1.0,
        ("unavailable",): 1.0,
        ("snapshot_missing",): 1.0,
    }


def test_the_release_has_an_age_in_each_process(tmp_path: Path, telemetry: Telemetry) -> None:
    telemetry.release_taken(made_ms=1_000_000, now_ms=1_030_000, seconds=0.004)
    telemetry.snapshot_taken(as_of_s=90)
    telemetry.release_prepared(3.0)
    telemetry.count_release_refused()
    Telemetry.open(tmp_path, "decision-1")

    found = scraped(tmp_path, now_ms=1_090_000)

    ages = {key: value for key, value in found.items() if key[0] == "rta_release_age_seconds"}
    assert ages == {series("rta_release_age_seconds", process="decision-0"): 90.0}
    assert found[series("rta_release_switches_total")] == 1.0
    assert found[series("rta_release_refused_total")] == 1.0
    assert found[series("rta_release_prepared_total")] == 1.0
    assert found[series("rta_release_taken_age_seconds", process="decision-0")] == 60.0
    assert found[series("rta_snapshot_age_seconds", process="decision-0")] == 1_000.0
    sums = [found[series("rta_activation_seconds_sum", phase=p)] for p in ("prepare", "switch")]
    assert sums == [3.0, 0.004]


def test_the_example_alerts_name_metrics_and_labels_that_exist() -> None:
    yaml = pytest.importorskip("yaml")
    rules = yaml.safe_load((DOCS / "examples" / "alerts.yml").read_text())
    shown = {m.name: {label.name: label.values for label in m.labels} for m in METRICS}

    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    named = [
        (metric, labels)
        for alert in alerts
        for metric, labels in re.findall(r"(rta_\w+)(?:\{([^}]*)\})?", alert["expr"])
    ]

    assert {metric for metric, _ in named} <= shown.keys()
    for metric, labels in named:
        for label, words in re.findall(r'(\w+)=~?"([^"]*)"', labels):
            if label != "process":
                assert set(words.split("|")) <= set(shown[metric][label]), (metric, words)
    for alert in alerts:
        assert {"summary", "action"} <= alert["annotations"].keys()
        assert alert["labels"]["severity"] in ("page", "ticket")


def test_workers_on_different_releases_are_a_skew_that_lasts_until_they_agree(
    tmp_path: Path,
) -> None:
    first, second, control, starting = (
        Telemetry.open(tmp_path, name)
        for name in ("decision-0", "decision-1", "control", "decision-2")
    )
    assert starting is not None  # it has no release yet

    def skew(now_ms: int) -> list[float]:
        found = scraped(tmp_path, now_ms)
        return [found[series(f"rta_release_{what}")] for what in ("versions", "skew_seconds")]

    before = skew(0)
    for worker in (first, second):
        worker.release_taken(1_000, 2_000, 0.0)
    agreed = skew(3_000)
    first.release_taken(9_000, 10_000, 0.0)
    control.release_taken(8_000, 8_500, 0.0)
    apart = skew(15_000)
    second.release_taken(9_000, 16_000, 0.0)
    again = skew(20_000)

    assert before == [0.0, 0.0]
    assert agreed == again == [1.0, 0.0]
    assert apart == [2.0, 5.0]


def test_a_worker_left_behind_is_said_once_and_so_is_its_return(tmp_path: Path) -> None:
    first, second = (Telemetry.open(tmp_path, f"decision-{number}") for number in (0, 1))
    said: list[tuple[str, dict[str, str]]] = []
    times_ms = iter([11_000, 12_100, 15_000, 17_000, 18_000])
    alarm = SkewAlarm(
        tmp_path, lambda: next(times_ms), lambda event, **facts: said.append((event, facts))
    )
    second.release_taken(1_000, 2_000, 0.0)

    first.release_taken(9_000, 10_000, 0.0)
    for _ in range(3):
        alarm.look()
    second.release_taken(9_000, 16_000, 0.0)
    for _ in range(2):
        alarm.look()

    assert said == [
        ("version_skew", {"versions": "2", "lasted_s": "2.1"}),
        ("version_skew_over", {}),
    ]


def test_decisions_are_counted_by_the_arm_that_made_them(
    tmp_path: Path, telemetry: Telemetry
) -> None:
    live, no = a_decision(), a_decision(ReasonCode.HOLDOUT)
    canary = msgspec.structs.replace(live, arm=Arm.CANARY)

    for decision in (live, live, no, canary):
        telemetry.count_decision(decision, a_platform())

    assert read_all(tmp_path).counts(ARM_DECISIONS, "arm", "participate") == {
        ("live", "yes"): 2.0,
        ("live", "no"): 1.0,
        ("canary", "yes"): 1.0,
    }


def test_the_supervisor_counts_its_children(tmp_path: Path) -> None:
    supervisor = Telemetry.open(tmp_path, "supervisor")

    supervisor.set_workers_up("decision", 2)
    supervisor.count_restart("decision")
    supervisor.count_restart("something else")

    up = series("rta_workers_up", kind="decision", process="supervisor")
    assert scraped(tmp_path)[up] == 2.0
    assert read_all(tmp_path).counts(WORKER_RESTARTS, "kind") == {
        ("decision",): 1.0,
        ("other",): 1.0,
    }


def test_only_decisions_that_happened_are_series(tmp_path: Path, telemetry: Telemetry) -> None:
    telemetry.count_decision(a_decision(), a_platform())

    names = Counter(name for name, _ in scraped(tmp_path))

    assert names["rta_decisions_total"] == 1
    assert sum(names.values()) <= 250


def test_a_scrape_of_a_busy_service_takes_milliseconds(tmp_path: Path) -> None:
    processes = [Telemetry.open(tmp_path, f"decision-{n}") for n in range(4)]
    for position in range(120):
        stage, tier = LifecycleStage(position % 6), ValueTier(position % 7)
        decision = a_decision(ReasonCode(position % 29), stage, tier)
        processes[position % 4].count_decision(decision, a_platform())

    untraced = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    command = (sys.executable, "-c", SCRAPES, str(tmp_path))

    best_s = subprocess.check_output(command, env=untraced, text=True)

    assert float(best_s) <= 0.050  # some 8 ms where nothing else runs


def test_a_process_of_another_user_counts_as_running(tmp_path: Path, telemetry: Telemetry) -> None:
    telemetry.set_breaker(is_open=False)
    path = metrics_folder(tmp_path) / "decision-0.cells"
    content = bytearray(path.read_bytes())
    content[24:32] = (1).to_bytes(8, "little")
    (metrics_folder(tmp_path) / "init.cells").write_bytes(content)

    gauges = read_all(tmp_path).gauges

    assert set(gauges) == {"decision-0", "init"}


def test_every_metric_has_its_name_its_meaning_and_closed_labels() -> None:
    for metric in METRICS:
        assert metric.name.startswith(PREFIX)
        assert metric.meaning.endswith(".")
        assert all(len(set(label.values)) == len(label.values) for label in metric.labels)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_the_documentation_page_is_the_registry() -> None:
    # to renew it: python -c "from rta_service.telemetry import document; print(document(), end='')"
    assert (DOCS / "metrics.md").read_text() == document()
