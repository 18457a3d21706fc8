"""From features and thresholds to stage and segment: what records and reports say."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.domain.user import LifecycleStage, RFMSegment, ValueTier
from rta_service.record import Records, rfm_codes, stages_at

STALE_DAYS: Final = 2
"""A daily build is never this old."""

Columns = Mapping[str, NDArray[np.int64]]
"""The columns of history.record_columns as arrays of one length."""


def segment_codes(columns: Columns, as_of_s: int, thresholds: Thresholds) -> NDArray[np.int64]:
    """Give RFMSegment codes as of the snapshot; NONE for those who never paid."""
    recency_s = as_of_s - columns["last_pay_at"]
    return rfm_codes(recency_s, columns["orders"], columns["cents"], thresholds)


def stale_warning(
    records: Records, as_of_s: int, now_s: int, thresholds: Thresholds
) -> tuple[str, ...]:
    """Say what an old log means: stages are derived when records are read, not when built."""
    age_days = (now_s - as_of_s) / DAY_S
    if age_days < STALE_DAYS:
        return ()
    now = stages_at(records, now_s, thresholds)
    churned = np.count_nonzero(now == int(LifecycleStage.CHURNED)) / max(len(records), 1)
    return (
        (
            f"the log ends {age_days:.0f} days ago: read now, {churned:.0%} of the devices count as "
            "churned, since stages follow from idle time at the moment of reading"
        ),
    )


def stage_counts(records: Records, as_of_s: int, thresholds: Thresholds) -> dict[str, int]:
    """Count devices by lifecycle stage at the as-of instant, all five named."""
    stages = [stage for stage in LifecycleStage if stage is not LifecycleStage.UNKNOWN]
    return _counts(stages_at(records, as_of_s, thresholds), stages)


def segment_counts(records: Records) -> dict[str, int]:
    """Count payers' devices by RFM segment, all eight named."""
    segments = [segment for segment in RFMSegment if segment is not RFMSegment.NONE]
    return _counts(records["segment"], segments)


def tier_counts(records: Records) -> dict[str, int]:
    """Count devices by value tier, all six named."""
    tiers = [tier for tier in ValueTier if tier is not ValueTier.UNKNOWN]
    return _counts(records["tier"], tiers)


def _counts(codes: NDArray[Any], members: list[Any]) -> dict[str, int]:
    counted = np.bincount(codes.astype(np.int64), minlength=256)
    return {member.label: int(counted[int(member)]) for member in members}
