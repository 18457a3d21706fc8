import math
from typing import Any

import numpy as np
import pytest

from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.features import FEATURE_NAMES
from rta_service.online.reach import Context, Sample, mean_value, reach, sample_of
from rta_service.record import RECORD_DTYPE, UserRecord, pack

FEED = Context(1, 1, 5, 3.0)
SPLASH = Context(1, 1, 1, 1.0)


def _sample(kit: Any, *records: UserRecord) -> Sample:
    laid = np.frombuffer(b"".join(map(pack, records)), dtype=RECORD_DTYPE)
    return sample_of(laid, kit.now_s, kit.a_snapshot.thresholds)


def _column(name: str, scale: float) -> Any:
    place = FEATURE_NAMES.index(name)
    return lambda rows: rows[:, place] * scale


def test_reach_counts_who_is_wanted_by_stage_tier_and_reason(kit: Any) -> None:
    sample = _sample(
        kit,
        kit.a_record(),
        kit.a_record(tier=ValueTier.S, orders=4),
        kit.a_record(tier=ValueTier.X),
        kit.a_record(last_active_at=1),
    )

    found = reach(kit.a_strategy(), sample)

    assert (found.devices, found.accepted) == (4, 2)
    assert found.reasons == {"accepted": 2, "never_bid": 1, "churned_low_value": 1}
    assert found.by_stage == {
        "introduction": (0, 0),
        "growth": (1, 2),
        "maturity": (1, 1),
        "silent": (0, 0),
        "churned": (0, 1),
    }
    assert found.by_tier == {
        "S": (1, 1),
        "A": (0, 0),
        "B": (0, 0),
        "C": (1, 2),
        "D": (0, 0),
        "X": (0, 1),
    }


def test_the_mean_is_over_the_accepted_devices_only(kit: Any) -> None:
    models = kit.some_models()
    models.heads["trade"].formula = _column("orders", 0.01)
    sample = _sample(
        kit,
        kit.a_record(orders=1),
        kit.a_record(orders=3),
        kit.a_record(orders=50, tier=ValueTier.X),
    )
    live = kit.a_live(kit.a_strategy(), models=models)

    mean = mean_value(live.bound["json"][0], models, sample)

    assert mean == pytest.approx(0.02)


def test_weights_average_one_over_the_accepted_devices(kit: Any) -> None:
    models = kit.some_models()
    models.heads["trade"].formula = _column("orders", 0.001)
    sample = _sample(kit, *(kit.a_record(orders=n) for n in range(1, 40)))
    bound = kit.a_live(kit.a_strategy(), models=models).bound["json"][0]

    mean = mean_value(bound, models, sample)

    worths = [bound.worth({"trade": n * 0.001}).value_given_event for n in range(1, 40)]
    assert np.mean([worth / mean for worth in worths]) == pytest.approx(1.0)


def test_contexts_are_dealt_out_in_proportion_to_their_shares(kit: Any) -> None:
    models = kit.some_models()
    place = FEATURE_NAMES.index("placement")
    models.heads["trade"].formula = lambda rows: (rows[:, place] == FEED.placement) * 1.0
    sample = _sample(kit, *(kit.a_record() for _ in range(400)))
    bound = kit.a_live(kit.a_strategy(), models=models).bound["json"][0]

    assert mean_value(bound, models, sample, (FEED, SPLASH)) == pytest.approx(0.75)


@pytest.mark.parametrize(("unknown", "mean"), [(True, 0.01), (False, math.nan)])
def test_a_strategy_that_reaches_nobody_is_weighed_by_strangers_if_it_wants_them(
    kit: Any, unknown: bool, mean: float
) -> None:
    audience = kit.an_audience(stages=frozenset({LifecycleStage.SILENT}), unknown=unknown)
    live = kit.a_live(kit.a_strategy(audience=audience))

    found = mean_value(live.bound["json"][0], live.models, _sample(kit, kit.a_record()))

    assert found == pytest.approx(mean, nan_ok=True)
