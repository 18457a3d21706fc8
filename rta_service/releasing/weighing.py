"""Strategies tried against models and a sample of the snapshot: mean values and reach."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from rta_service.domain.errors import InvalidInput
from rta_service.domain.platform import PlatformInfo
from rta_service.domain.release import Release, SnapshotManifest
from rta_service.domain.strategy import Goal, OptimisedEvent, Strategy
from rta_service.online.live_release import bind, mean_name
from rta_service.online.reach import (
    ANY_CONTEXT,
    Context,
    Reach,
    Sample,
    mean_value,
    reach,
    sample_of,
)
from rta_service.releasing.shelf import Shelf, snapshot_of, strategies_of
from rta_service.scoring.head import Head
from rta_service.scoring.model_set import ONE, ModelSet, ValueRule, load_model_set
from rta_service.stores.snapshots import sample_records

SAMPLE_DEVICES: Final = 20_000
"""Devices on which mean values and reach are measured; a standard error of a mean is its spread
over the root of those accepted."""


def mean_values(shelf: Shelf, release: Release, now_s: int) -> dict[str, float]:
    """Measure each strategy's mean value on each of its platforms, by `mean_name`."""
    models = load_model_set(shelf.models_folder, release.models, shelf.heads)
    sample = sample_snapshot(shelf, snapshot_of(shelf, release.snapshot_id), now_s)
    return {
        mean_name(strategy.strategy_id, info.name): _mean(strategy, info, models, sample)
        for strategy in strategies_of(shelf, release)
        for info in _platforms_of(shelf, strategy)
    }


def check_strategies(shelf: Shelf, strategies: Sequence[Strategy], now_s: int) -> dict[str, Reach]:
    """Try strategies as a publication would, on the parts that are there; measure their reach.

    The parts are those that decide now, or before the first release those kept for it; without
    a snapshot there is no reach. Raises InvalidInput.
    """
    base = shelf.releases.current() or shelf.releases.staged()
    models = load_model_set(shelf.models_folder, base.models, shelf.heads) if base.models else None
    sample = None
    if base.snapshot_id:
        sample = sample_snapshot(shelf, snapshot_of(shelf, base.snapshot_id), now_s)
    for strategy in strategies:
        for info in _platforms_of(shelf, strategy):
            if models is not None and sample is not None:
                _mean(strategy, info, models, sample)
            else:
                bind(strategy, info, models or _Untrained(), math.nan)
    return {s.strategy_id: reach(s, sample) for s in strategies} if sample else {}


class _Untrained:
    """Stands for models that are still to come: nothing is missing yet."""

    heads: Mapping[str, Head] = MappingProxyType({})

    def value_rule(self, _goal: Goal, _event: OptimisedEvent) -> ValueRule:
        return ONE


def _mean(strategy: Strategy, info: PlatformInfo, models: ModelSet, sample: Sample) -> float:
    contexts = traffic_contexts(models)
    here = tuple(c for c in contexts if c.platform == info.code) or contexts
    mean = mean_value(bind(strategy, info, models, math.nan), models, sample, here)
    if not mean > 0:
        raise InvalidInput(
            "reaches no device of the snapshot that is worth anything, so no bid can be weighed: "
            "widen its audience",
            f"strategy {strategy.strategy_id} on {info.name}",
        )
    return mean


def _platforms_of(shelf: Shelf, strategy: Strategy) -> list[PlatformInfo]:
    """Give the platforms a strategy is bound to; raises InvalidInput for one we don't speak."""
    installed = {info.name: info for info in shelf.platforms}
    for name in strategy.bindings:
        if name not in installed:
            raise InvalidInput(
                f"bound to {name!r}, which this service does not speak; it speaks "
                f"{', '.join(installed)}",
                f"strategy {strategy.strategy_id}",
            )
    return [installed[name] for name in strategy.bindings]


def sample_snapshot(shelf: Shelf, snapshot: SnapshotManifest, now_s: int) -> Sample:
    """Take an evenly spread sample of a snapshot from the store."""
    records = sample_records(shelf.client, shelf.namespace, snapshot, SAMPLE_DEVICES)
    return sample_of(records, now_s, snapshot.thresholds)


def traffic_contexts(models: ModelSet) -> tuple[Context, ...]:
    """What requests look like besides the device, as the trade model saw it in training."""
    seen = models.heads["trade"].manifest.contexts
    return tuple(Context(*c) for c in seen) or ANY_CONTEXT
