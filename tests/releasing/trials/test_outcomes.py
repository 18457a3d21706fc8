import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rta_service.device_key import KeyRing
from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import ModelRef
from rta_service.nearline.autopilot.evidence import Evidence
from rta_service.platforms.registry import load_adapters
from rta_service.releasing.autopilot_run import gather
from rta_service.releasing.outcome_lines import Fate, Window, read_line
from rta_service.releasing.outcomes import LINE_BYTES, Outcomes, read_lines
from rta_service.releasing.shadow_ledger import KEPT_EVERY_S, ShadowLedger
from rta_service.releasing.shadowing import ShadowBoard, Surroundings
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.trials import trials_of
from rta_service.stores.redis import admin_client
from rta_service.stores.traffic_sample import read_sample
from rta_service.stores.trial_store import DAY_MS, OUTCOME_DAYS, PAIRS_A_DAY, Batch, TrialStore

NOW_MS = 1_717_286_400_000


class FixedClock:
    def now_ms(self) -> int:
        return NOW_MS

    def monotonic_s(self) -> float:
        return 1.0


WINDOW = Window(NOW_MS, ("json", "tencent"))
GOOD = {"id": "o1", "ts_ms": NOW_MS, "platform": "json", "labels": {"register": 1}}


def a_line(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


@pytest.fixture
def outcomes(town: Any, keys: Any) -> Outcomes:
    return Outcomes(town.shelves, keys, town.clock)


@pytest.fixture
def evidence(town: Any) -> Callable[[], Evidence]:
    """What is known of the first trial."""

    def read() -> Evidence:
        store = TrialStore(town.shelf.client, town.shelf.namespace)
        return gather(store, trials_of(town.release())[0])[0]

    return read


def test_a_line_with_features_judges_between_both_models(
    town: Any,
    outcomes: Outcomes,
    a_greedy_one: ModelRef,
    evidence: Callable[[], Evidence],
    outcome_lines: Callable[..., list[bytes]],
) -> None:
    town.shadow(a_greedy_one)

    fates = outcomes.take(outcome_lines(3_000), "growth")

    assert {fate.fate for fate in fates} == {"accepted"}
    assert {fate.pairs for fate in fates} == {1}
    level = evidence().level
    assert level.rows == 3_000
    assert level.live / level.positives == pytest.approx(1.0, abs=0.06)
    assert level.candidate / level.live == pytest.approx(1.2, abs=0.02)
    assert list(evidence().levels) == ["silent/json"]
    assert evidence().arm_live.matured == 3_000


def test_a_line_is_joined_to_the_sampled_request_it_names(
    town: Any,
    outcomes: Outcomes,
    a_greedy_one: ModelRef,
    evidence: Callable[[], Evidence],
    sample_rows: Callable[..., list[str]],
) -> None:
    town.shadow(a_greedy_one)
    names = sample_rows(town, 20)
    shelf = town.shelf
    board = ShadowBoard(
        Surroundings(
            shelf.releases.current,
            lambda ref: shelf.heads.load(shelf.models_folder, ref),
            lambda limit, after_ms: read_sample(town.run_dir, limit, after_ms),
            town.clock.now_ms,
            time.thread_time,
        ),
        ShadowLedger(lambda: TrialStore(shelf.client, shelf.namespace), "h", town.clock),
        lambda _: None,
    )
    board.look()
    town.clock.pass_s(KEPT_EVERY_S)
    board.look()
    town.clock.pass_s(6 * 86_400)

    fates = outcomes.take(
        [a_line(id="a", request_id=names[3]), a_line(id="b", request_id="never sampled")], "growth"
    )

    assert [fate.pairs for fate in fates] == [1, 0]
    assert evidence().level.rows == 1
    assert evidence().level.positives == 1


def test_a_line_of_one_arm_says_how_that_arm_kept_its_promises(
    town: Any,
    outcomes: Outcomes,
    a_good_one: ModelRef,
    evidence: Callable[[], Evidence],
) -> None:
    town.shadow(a_good_one)
    town.canary(10_000, a_good_one)
    scored = {"scores": {"register": 0.25}, "value_micros": 5_000_000, "cost_micros": 1_000_000}

    fates = outcomes.take(
        [
            a_line(id="l", models={"register": "v1"}, **scored),
            a_line(id="c", models={"register": "good"}, labels={"register": 0}, **scored),
            a_line(id="old", models={"register": "v0"}, **scored),
            a_line(id="no score", models={"register": "v1"}),
        ],
        "growth",
    )

    assert [(fate.fate, fate.pairs) for fate in fates] == [("accepted", 0)] * 4
    live, candidate = evidence().arm_live, evidence().arm_candidate
    assert (live.matured, live.positives, live.promised) == (1, 1, 0.25)
    assert (live.surplus.total, candidate.surplus.total) == (4.0, -1.0)
    assert (candidate.matured, candidate.positives) == (1, 0)
    assert evidence().level.rows == 0


def test_a_line_counts_once_however_often_and_whenever_it_comes(
    town: Any,
    outcomes: Outcomes,
    a_good_one: ModelRef,
    evidence: Callable[[], Evidence],
    outcome_lines: Callable[..., list[bytes]],
) -> None:
    town.shadow(a_good_one)
    lines = outcome_lines(50)

    first = outcomes.take([*lines, *lines[:5]], "growth")
    town.clock.pass_s(20 * 86_400)
    moved = json.loads(lines[0]) | {"ts_ms": NOW_MS + DAY_MS}
    again = outcomes.take([*lines, json.dumps(moved).encode()], "somebody else")

    assert [fate.fate for fate in first] == ["accepted"] * 50 + ["duplicate"] * 5
    assert {fate.fate for fate in again} == {"duplicate"}
    assert evidence().level.rows == 50


def test_bad_lines_are_told_and_the_others_are_taken(
    town: Any, outcomes: Outcomes, a_good_one: ModelRef
) -> None:
    town.shadow(a_good_one)

    fates = outcomes.take(
        [a_line(id="1"), b"", b"{", a_line(id="2"), b"x" * (LINE_BYTES + 1)], "growth"
    )

    assert [(fate.line, fate.fate) for fate in fates] == [
        (1, "accepted"),
        (3, "rejected"),
        (4, "accepted"),
        (5, "rejected"),
    ]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"labels": {}}, "labels"),
        ({"labels": {"register": 2}}, "labels.register"),
        ({"labels": {"register": "yes"}}, "labels[...]"),
        ({"scores": {"trade": 1.5}}, "scores.trade"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"ts_ms": NOW_MS - (OUTCOME_DAYS + 1) * DAY_MS}, "ts_ms"),
        ({"ts_ms": NOW_MS + DAY_MS}, "ts_ms"),
        ({"platform": "nowhere"}, "platform"),
        ({"stage": "asleep"}, "stage"),
        ({"cost_micros": -1}, "cost_micros"),
        ({"value_micros": -1}, "value_micros"),
        ({"bid": -0.5}, "bid"),
        ({"features": [1.0, None]}, "features"),
    ],
)
def test_a_rejected_line_names_its_field(changes: dict[str, Any], field: str) -> None:
    fate = read_line(7, a_line(**changes), WINDOW)

    assert isinstance(fate, Fate)
    assert (fate.line, fate.fate, fate.field) == (7, "rejected", field)
    assert fate.reason


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), st.lists).map(repr).map(str.encode)
)
def test_whatever_a_line_holds_it_is_read_or_rejected(text: bytes) -> None:
    assert isinstance(read_line(1, text, WINDOW), Fate)


def test_an_empty_body_is_told() -> None:
    with pytest.raises(InvalidInput, match="no lines"):
        read_lines(b"\n \n")
    assert read_lines(b"a\nb") == [b"a", b"b"]


def test_outcomes_without_a_trial_are_taken_too(outcomes: Outcomes) -> None:
    assert [fate.fate for fate in outcomes.take([a_line(), a_line()], "growth")] == [
        "accepted",
        "duplicate",
    ]


def test_two_who_write_at_once_lose_nothing(
    town: Any,
    outcomes: Outcomes,
    a_good_one: ModelRef,
    evidence: Callable[[], Evidence],
    outcome_lines: Callable[..., list[bytes]],
) -> None:
    town.shadow(a_good_one)
    lines = [outcome_lines(40, seed=seed) for seed in range(4)]
    threads = [
        threading.Thread(target=lambda part=part: [outcomes.take([one], "t") for one in part])
        for part in lines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert evidence().level.rows == 160


def _bring_for_ever(url: str, shelf: tuple[str, Path], lines: list[bytes], told: Path) -> None:
    """Bring lines one by one, and write down each that was acknowledged."""
    namespace, folder = shelf
    platforms = tuple(adapter.info for adapter in load_adapters().values())
    on = Shelf(admin_client(url), namespace, folder, platforms, "00000000")
    outcomes = Outcomes(lambda: on, KeyRing(b"p" * 16, b"e" * 16), FixedClock())
    with told.open("a") as file:
        for line in lines:
            for fate in outcomes.take([line], "child"):
                file.write(f"{fate.id} {fate.fate}\n")
                file.flush()


@pytest.mark.parametrize(
    "storm", [(40, 1), pytest.param((400, 6), marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_a_kill_at_any_moment_counts_no_line_twice_and_loses_none_that_was_acknowledged(
    storm: tuple[int, int],
    town: Any,
    store_url: str,
    a_good_one: ModelRef,
    evidence: Callable[[], Evidence],
) -> None:
    count, kills = storm
    town.shadow(a_good_one)
    facts = {"models": {"register": "v1"}, "scores": {"register": 0.5}}
    lines = [a_line(id=str(number), **facts) for number in range(count)]
    told = town.run_dir.parent / "told"
    told.touch()
    shelf = (town.shelf.namespace, town.shelf.models_folder)
    for _ in range(kills):
        child = multiprocessing.get_context("spawn").Process(
            target=_bring_for_ever, args=(store_url, shelf, lines, told)
        )
        child.start()
        enough = told.stat().st_size + 200
        end_s = time.monotonic() + 30.0
        while told.stat().st_size < enough and child.is_alive() and time.monotonic() < end_s:
            time.sleep(0.002)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()

    acknowledged = {text.split()[0] for text in told.read_text().splitlines() if " " in text}
    taken = evidence().arm_live.matured
    assert len(acknowledged) <= taken <= len(acknowledged) + kills
    _bring_for_ever(store_url, shelf, lines, told)
    assert evidence().arm_live.matured == len(lines)


def test_a_batch_worked_out_on_an_old_state_is_refused(town: Any) -> None:
    store = TrialStore(town.shelf.client, town.shelf.namespace)
    batch = Batch("growth", 10, {9: [b"a"], 10: [b"b", b"c"]}, {"t": b"one"})

    assert store.commit(0, batch)
    assert not store.commit(0, batch._replace(evidence={"t": b"two"}))
    assert store.evidence("t") == b"one"
    assert store.known([b"a", b"b", b"x"], 10) == [True, True, False]
    assert store.batches() == 1


def test_a_day_keeps_only_so_many_pairs(town: Any) -> None:
    store = TrialStore(town.shelf.client, town.shelf.namespace)
    town.shelf.client.set(f"{{{town.shelf.namespace}}}:r1:pairs:10", PAIRS_A_DAY - 2)

    kept = store.keep_pairs(10, dict.fromkeys(range(1, 6), b"v"))

    assert kept == 2
    assert set(store.pairs((tag, 11) for tag in range(1, 6))) == {1, 2}
    assert store.pairs([(1, 12)]) == {}
    assert store.pairs([]) == {}
    assert store.keep_pairs(10, {}) == 0
