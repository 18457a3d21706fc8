"""Whom a strategy reaches on a snapshot, and what its devices are worth on average.

The same judging and pricing as in a request, over a sample of records.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from rta_service.domain.reason import PARTICIPATING
from rta_service.domain.strategy import Strategy
from rta_service.domain.thresholds import Thresholds
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.features import UNKNOWN_RECORD
from rta_service.online import policy
from rta_service.online.live_release import BoundStrategy
from rta_service.online.score import Candidate, Models, score
from rta_service.record import Records, UserRecord, stage_at, unpack


class Context(NamedTuple):
    """What requests look like besides the device, as model codes, and how often."""

    platform: int
    os: int
    placement: int
    share: float = 1.0


ANY_CONTEXT: Final = (Context(0, 0, 0),)
"""Where nothing is known of the traffic."""


class Reach(NamedTuple):
    """How many of the sampled devices a strategy wants, and why not the others."""

    devices: int
    accepted: int
    reasons: Mapping[str, int]
    by_stage: Mapping[str, tuple[int, int]]
    """Stage to (accepted, all)."""
    by_tier: Mapping[str, tuple[int, int]]
    """Tier to (accepted, all)."""


class Sample(NamedTuple):
    """Records to try strategies on."""

    records: Sequence[UserRecord]
    data: Sequence[bytes]
    stages: Sequence[LifecycleStage]
    now_s: int


def sample_of(records: Records, now_s: int, thresholds: Thresholds) -> Sample:
    """Unpack sampled records once for all strategies."""
    data = [records[i].tobytes() for i in range(len(records))]
    unpacked = [unpack(d) for d in data]
    return Sample(unpacked, data, [stage_at(r, now_s, thresholds) for r in unpacked], now_s)


def reach(strategy: Strategy, sample: Sample) -> Reach:
    """Judge every sampled device for a strategy."""
    traits = policy.trait_table(strategy.audience)
    reasons: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for record, stage in zip(sample.records, sample.stages, strict=True):
        reason = policy.admit(strategy, traits, record, stage)
        traits_of_one = (stage.label, ValueTier(record.tier).label)
        reasons[reason.label] += 1
        total.update(traits_of_one)
        if reason in PARTICIPATING:
            accepted.update(traits_of_one)
    stages = [s.label for s in LifecycleStage if s is not LifecycleStage.UNKNOWN]
    tiers = [t.label for t in ValueTier if t is not ValueTier.UNKNOWN]
    return Reach(
        len(sample.records),
        sum(accepted[stage] for stage in stages),
        dict(reasons.most_common()),
        {name: (accepted[name], total[name]) for name in stages},
        {name: (accepted[name], total[name]) for name in tiers},
    )


def mean_value(
    bound: BoundStrategy, models: Models, sample: Sample, contexts: Sequence[Context] = ANY_CONTEXT
) -> float:
    """Average E[goal value | optimised event] over the sampled devices a strategy accepts.

    A strategy that accepts no sampled device falls back to strangers if it wants them, else to not-a-number.
    """
    strategy = bound.strategy
    data = [
        d
        for d, record, stage in zip(sample.data, sample.records, sample.stages, strict=True)
        if policy.admit(strategy, bound.traits, record, stage) in PARTICIPATING
    ]
    if not data and strategy.audience.unknown:
        data = [UNKNOWN_RECORD]
    if not data:
        return math.nan
    heads = sorted({head for head in bound.heads if head})
    scored = score(models, heads, _candidates(data, contexts), sample.now_s)
    return float(np.mean([bound.worth(scores).value_given_event for scores in scored]))


def _candidates(data: Sequence[bytes], contexts: Sequence[Context]) -> list[Candidate]:
    """Deal contexts out over records in proportion to their shares, shuffled but the same each
    time."""
    shares = np.cumsum([c.share for c in contexts])
    places = (np.random.default_rng(0).permutation(len(data)) + 0.5) / len(data)
    picks = np.searchsorted(shares / shares[-1], places)
    return [Candidate(d, *contexts[pick][:3]) for d, pick in zip(data, picks, strict=True)]
