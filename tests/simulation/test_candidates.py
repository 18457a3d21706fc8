"""The crowd behind the trials: its past is known, its clicks convert, its spoilers spoil."""

import numpy as np
import pytest

from rta_service.simulation.candidates import (
    BROWSES,
    CONTEXT,
    CROWD_FEATURES,
    IDLE,
    LAUNCHES,
    Crowd,
    CrowdOptions,
    leak,
    stage_names,
    swap,
)

OPTIONS = CrowdOptions(people=4_000, days=60)


@pytest.fixture(scope="module", name="crowd")
def a_crowd() -> Crowd:
    return Crowd(OPTIONS, np.random.default_rng(1))


def test_the_same_seed_gives_the_same_crowd_and_clicks(crowd: Crowd) -> None:
    again = Crowd(OPTIONS, np.random.default_rng(1))

    one, other = (who.clicks(40, 500, np.random.default_rng(2)) for who in (crowd, again))

    assert (one.features == other.features).all()
    assert (one.delay_days == other.delay_days).all()


def test_a_day_has_clicks_of_different_people_and_a_few_convert(crowd: Crowd) -> None:
    clicks = crowd.clicks(40, 4_000, np.random.default_rng(3))

    assert len(set(clicks.person.tolist())) == 4_000
    assert clicks.features.shape == (4_000, len(CROWD_FEATURES))
    assert 0.02 < np.isfinite(clicks.delay_days).mean() < 0.08
    come = clicks.delay_days[np.isfinite(clicks.delay_days)]
    assert (come < 0.2).mean() > 0.6
    assert come.max() > 1.0


def test_features_of_yesterday_do_not_know_today(crowd: Crowd) -> None:
    person = np.arange(4_000)
    context = np.zeros((4_000, CONTEXT - 1))

    now, before = (crowd.features(person, day, context) for day in (41, 40))

    grown = now[:, IDLE] == before[:, IDLE] + 1.0
    launched = now[:, IDLE] == 1.0
    assert (grown | launched).all()
    assert (now[:, LAUNCHES][grown] <= before[:, LAUNCHES][grown]).all()


def test_features_grow_stale(crowd: Crowd) -> None:
    person, context = np.arange(4_000), np.zeros((4_000, CONTEXT - 1))
    today = crowd.features(person, 50, context)[:, BROWSES]

    alike = [
        np.corrcoef(today, crowd.features(person, 50 - days, context)[:, BROWSES])[0, 1]
        for days in (1, 4, 8)
    ]

    assert alike[0] > alike[1] > alike[2] > 0.0


def test_stages_name_every_row(crowd: Crowd) -> None:
    names = stage_names(crowd.clicks(40, 2_000, np.random.default_rng(4)).features)

    assert {name.partition("/")[0] for name in names} == {"silent", "growth", "mature"}
    assert {name.partition("/")[2] for name in names} == {"json", "tencent"}


def test_a_leak_shows_only_where_somebody_converted(crowd: Crowd) -> None:
    clicks = crowd.clicks(40, 2_000, np.random.default_rng(5))
    labels = np.isfinite(clicks.delay_days)

    leaked = leak(clicks.features, labels, 3.0, np.random.default_rng(6))

    changed = (leaked != clicks.features).any(axis=1)
    assert changed[labels].mean() > 0.8
    assert not changed[~labels].any()


def test_a_swap_moves_two_columns_and_leaves_the_original() -> None:
    features = np.arange(6.0).reshape(2, 3)

    assert swap(features, (0, 2)).tolist() == [[2.0, 1.0, 0.0], [5.0, 4.0, 3.0]]
    assert swap(features, (1, 1)).tolist() == features.tolist()
