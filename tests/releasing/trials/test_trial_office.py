import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rta_service.device_key import KeyRing
from rta_service.domain.access import Actor, Role
from rta_service.domain.clock import SystemClock
from rta_service.domain.release import ModelRef
from rta_service.releasing.autopilot_run import Autopilot, Rules
from rta_service.releasing.background import Background, Pace
from rta_service.releasing.trial_office import Habits, Parts, TrialOffice, open_office
from rta_service.telemetry import Telemetry, exposition

ADMIN = Actor("anna", Role.ADMIN)


@pytest.fixture
def told() -> list[tuple[str, Exception | None]]:
    return []


@pytest.fixture
def office(
    town: Any, deputy: Any, keys: KeyRing, told: list[tuple[str, Exception | None]]
) -> Iterator[TrialOffice]:
    telemetry = Telemetry.open(town.run_dir, "control")
    pilot = Autopilot(town.shelves, deputy, town.clock, Rules("host-1"))
    parts = Parts(town.shelves, pilot, keys, town.clock, telemetry, lambda *news: told.append(news))
    yield open_office(parts, Habits(town.run_dir, "host-1", 0.5))
    telemetry.close()


def wait_for(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


def test_shadows_are_scored_while_the_office_runs_and_shown_as_metrics(
    town: Any,
    office: TrialOffice,
    a_greedy_one: ModelRef,
    told: list[tuple[str, Exception | None]],
    sample_rows: Callable[..., list[str]],
) -> None:
    town.shadow(a_greedy_one)
    sample_rows(town, 300)

    with office.running():
        wait_for(lambda: office.shadows() and office.shadows()[0].rows == 300)
        wait_for(lambda: ("autopilot", None) in told)

    shown = exposition(town.run_dir, 0).decode()
    assert 'rta_shadow_rows_total{model="register",phase="shadow"} 300.0' in shown
    assert 'rta_shadow_mean_ratio{model="register",phase="shadow",process="control"} 1.' in shown
    assert not [error for _, error in told if error]
    assert not [t for t in threading.enumerate() if t.name in ("shadows", "autopilot")]


def test_a_trial_that_ended_is_no_longer_shown(
    town: Any,
    office: TrialOffice,
    a_good_one: ModelRef,
    sample_rows: Callable[..., list[str]],
) -> None:
    town.shadow(a_good_one)
    sample_rows(town, 50)
    office.board.look()
    town.canary(1_000, a_good_one)
    sample_rows(town, 20, seed=2)
    office.board.look()

    shown = exposition(town.run_dir, 0).decode()

    assert 'rta_shadow_rows_total{model="register",phase="shadow"} 50.0' in shown
    assert 'rta_shadow_rows_total{model="register",phase="canary"} 20.0' in shown
    assert 'rta_shadow_psi{model="register",phase="shadow"' not in shown
    assert 'rta_shadow_psi{model="register",phase="canary"' in shown


def test_the_control_port_s_wishes_reach_those_who_fulfil_them(office: TrialOffice) -> None:
    line = {"id": "o1", "ts_ms": 1_717_286_400_000, "platform": "json", "labels": {"trade": 1}}

    fates = office.take_outcomes(json.dumps(line).encode(), ADMIN)
    office.switch_autopilot(ADMIN, "try it", on=True)

    assert [fate.fate for fate in fates] == ["accepted"]
    assert office.autopilot().switch.on


def test_work_that_fails_is_told_and_goes_on() -> None:
    turns: list[int] = []
    told: list[Exception | None] = []

    def work() -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            raise ValueError("the first turn")

    with Background("test", work, Pace(0.01, 1.0, time.thread_time), told.append):
        wait_for(lambda: len(turns) >= 3)

    assert str(told[0]) == "the first turn"
    assert told[1] is None


def test_a_thread_sleeps_off_what_it_spent() -> None:
    spent = iter((0.0, 0.2, 0.2, 0.2))
    background = Background("t", lambda: None, Pace(1.0, 0.05, lambda: next(spent)), lambda _: None)

    assert background._turn() == pytest.approx(0.2 / 0.05 - 0.2)
    assert background._turn() == 1.0


@pytest.mark.slow
def test_shadow_scoring_keeps_to_its_share_of_a_core(
    town: Any, deputy: Any, keys: KeyRing, a_good_one: ModelRef, sample_rows: Any
) -> None:
    town.shadow(a_good_one)
    spent = []

    def cpu_s() -> float:
        spent.append(time.thread_time())
        return spent[-1]

    pilot = Autopilot(town.shelves, deputy, SystemClock(), Rules("host-1"))
    telemetry = Telemetry.open(town.run_dir, "control")
    parts = Parts(town.shelves, pilot, keys, SystemClock(), telemetry, lambda *_: None)
    office = open_office(parts, Habits(town.run_dir, "host-1", 0.05))
    started = time.monotonic()
    with Background("shadows", office.board.look, Pace(0.05, 0.05, cpu_s), lambda _: None):
        for seed in range(100):
            sample_rows(town, 200, seed=seed)
            time.sleep(0.1)
    took = time.monotonic() - started
    telemetry.close()

    assert office.shadows()[0].rows > 2_000
    assert (spent[-1] - spent[0]) / took < 0.08


def test_the_traffic_of_another_host_is_not_needed(tmp_path: Path, office: TrialOffice) -> None:
    office.board.look()

    assert office.shadows() == []
