"""Late, missing, duplicated and held-up postbacks."""

from collections.abc import Callable

import numpy as np
import pytest

from rta_service.domain.control import CostGoal
from rta_service.simulation.wind_tunnel.world import World

Build = Callable[..., World]

MANY = {"shallow": 0.3}


def test_without_faults_every_conversion_is_reported_once_and_at_once(build: Build) -> None:
    world = build(funnel=MANY)
    posts, events = world.postbacks, world.conversions

    assert sorted(posts.id.tolist()) == list(range(len(events.row)))
    np.testing.assert_array_equal(posts.arrives_at, posts.converted_at)
    np.testing.assert_array_equal(posts.row, events.row[posts.id])
    np.testing.assert_array_equal(posts.won_at, world.requests.at[posts.row])


def test_postbacks_are_late_by_their_mean_and_ordered_by_arrival(build: Build) -> None:
    posts = build(funnel=MANY, platform={"late_s": 600.0}).postbacks

    late = posts.arrives_at - posts.converted_at

    assert late.min() >= 0
    assert late.mean() == pytest.approx(600, rel=0.05)
    assert (np.diff(posts.arrives_at) >= 0).all()


def test_a_duplicate_says_the_same_again_later(build: Build) -> None:
    posts = build(funnel=MANY, platform={"twice": 0.2}).postbacks
    ids, first, counts = np.unique(posts.id, return_index=True, return_counts=True)

    assert counts.max() == 2
    assert (counts == 2).mean() == pytest.approx(0.2, abs=0.02)
    again = np.setdiff1d(np.arange(len(posts)), first)
    of = first[np.searchsorted(ids, posts.id[again])]
    assert (posts.arrives_at[again] > posts.arrives_at[of]).all()
    for name in ("row", "kind", "converted_at", "value"):
        np.testing.assert_array_equal(getattr(posts, name)[again], getattr(posts, name)[of])


def test_a_missing_postback_never_comes_though_the_conversion_counts(build: Build) -> None:
    world = build(funnel=MANY, platform={"missing": 0.25})

    share = len(np.unique(world.postbacks.id)) / len(world.conversions.row)

    assert share == pytest.approx(0.75, abs=0.02)
    assert world.outcomes(CostGoal.SHALLOW).sum() > len(world.postbacks) * 0.7


@pytest.mark.parametrize("lost", [False, True])
def test_in_an_outage_nothing_arrives(build: Build, *, lost: bool) -> None:
    plain = build(funnel=MANY)
    outage = {"start": 0.5, "end": 0.6, "lost": lost}
    posts = build(funnel=MANY, platform={"outages": [outage]}).postbacks
    start, end = 0.5 * 86_400, 0.6 * 86_400
    caught = int(((plain.postbacks.arrives_at >= start) & (plain.postbacks.arrives_at < end)).sum())

    assert caught > 100
    assert not ((posts.arrives_at >= start) & (posts.arrives_at < end)).any()
    assert len(plain.postbacks) - len(posts) == (caught if lost else 0)
    burst = int(((posts.arrives_at >= end) & (posts.arrives_at < end + 60)).sum())
    assert (burst >= caught) is not lost
