"""Making releases: what is checked before one can decide, and how one is loaded.

A release names snapshot, models and strategies together. It is put together here, tried out
(models in a process of their own, strategies against the models, their mean values over the
snapshot), and only then does the pointer move.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec
import numpy as np

from rta_service.domain.clock import Clock
from rta_service.domain.errors import InvalidInput, StartupError
from rta_service.domain.platform import PlatformInfo
from rta_service.domain.release import ModelRef, Release, SnapshotManifest, Staged
from rta_service.domain.strategy import Goal, OptimisedEvent, Strategy
from rta_service.features import FEATURES
from rta_service.online.live_release import LiveRelease, assemble, bind, mean_name
from rta_service.online.reach import (
    ANY_CONTEXT,
    Context,
    Reach,
    Sample,
    mean_value,
    reach,
    sample_of,
)
from rta_service.online.strategy_file import parse
from rta_service.scoring.check import check_models
from rta_service.scoring.head import Head
from rta_service.scoring.model_set import ONE, ModelSet, ValueRule, load_model_set
from rta_service.stores.redis import AdminClient, AsyncClient
from rta_service.stores.releases import AsyncReleaseReader, ReleaseStore, new_release_id
from rta_service.stores.snapshots import fetch_manifest, sample_records

SAMPLE_DEVICES: Final = 20_000
"""Devices on which mean values and reach are measured; a standard error of a mean is its spread
over the root of those accepted."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where the parts of releases stand."""

    client: AdminClient
    namespace: str
    models_folder: Path
    platforms: tuple[PlatformInfo, ...]
    pepper_id: str

    @property
    def releases(self) -> ReleaseStore:
        """The pointer and its history."""
        return ReleaseStore(self.client, self.namespace)


@dataclass(frozen=True, slots=True)
class Change:
    """What the next release has other than the current one; None keeps a part as it is."""

    snapshot_id: str | None = None
    models: tuple[ModelRef, ...] | None = None
    strategies: str | None = None
    """The text of a strategies file."""
    note: str = ""


def publish(shelf: Shelf, change: Change, now_ms: int) -> Release | Staged:
    """Make the next release decide: put together, tried out, and then the pointer moves.

    Before the first release, parts are kept until there is one of each. Raises InvalidInput,
    ModelRefused or StartupError naming what is wrong; the current release then goes on.
    """
    if change.snapshot_id:
        snapshot_of(shelf, change.snapshot_id)
    current = shelf.releases.current()
    parts = _merged(shelf, change, current)
    if current is None:
        shelf.releases.stage(parts)
        if parts.missing:
            return parts
    draft = Release(
        release_id="",
        snapshot_id=parts.snapshot_id,
        models=parts.models,
        strategies_id=parts.strategies_id,
        created_at_ms=now_ms,
        previous_id=current.release_id if current else "",
        note=change.note,
    )
    release = tried(shelf, draft)
    shelf.releases.publish(release)
    return release


def tried(shelf: Shelf, draft: Release) -> Release:
    """Try a release out: models load and score elsewhere, every strategy has a mean value."""
    names = {ref.name for ref in draft.models}
    if not {"register", "trade"} <= names:
        raise InvalidInput(f"a release needs the models register and trade, not {sorted(names)}")
    check_models(shelf.models_folder, draft.models)
    return msgspec.structs.replace(
        draft,
        release_id=new_release_id(draft.created_at_ms),
        mean_values=mean_values(shelf, draft, draft.created_at_ms // 1000),
    )


def _merged(shelf: Shelf, change: Change, current: Release | None) -> Staged:
    """Lay a change over what decides now, or over what was kept before the first release."""
    base: Staged | Release = current if current is not None else shelf.releases.staged()
    strategies_id = base.strategies_id
    if change.strategies is not None:
        parse(change.strategies)
        strategies_id = shelf.releases.put_strategies(change.strategies)
    models = base.models if change.models is None else change.models
    return Staged(change.snapshot_id or base.snapshot_id, models, strategies_id)


def load(shelf: Shelf, release_id: str) -> LiveRelease:
    """Make a published release ready to decide; raises RTAError when a part is not right."""
    release = shelf.releases.get(release_id)
    if release is None:
        raise StartupError(f"release {release_id} is not in the store")
    snapshot = snapshot_of(shelf, release.snapshot_id)
    models = load_model_set(shelf.models_folder, release.models)
    live = assemble(release, snapshot, models, _strategies(shelf, release), shelf.platforms)
    for bound in live.bound.values():
        for strategy in bound:
            if not math.isfinite(strategy.mean_value):
                name = strategy.strategy.strategy_id
                raise StartupError(f"release {release_id} has no mean value for {name}")
    for head in models.heads.values():
        head.probabilities(np.zeros((1, len(FEATURES))))  # the first call is the slow one
    return live


def mean_values(shelf: Shelf, release: Release, now_s: int) -> dict[str, float]:
    """Measure each strategy's mean value on each of its platforms, by `mean_name`."""
    models = load_model_set(shelf.models_folder, release.models)
    sample = sample_snapshot(shelf, snapshot_of(shelf, release.snapshot_id), now_s)
    return {
        mean_name(strategy.strategy_id, info.name): _mean(strategy, info, models, sample)
        for strategy in _strategies(shelf, release)
        for info in _platforms_of(shelf, strategy)
    }


def check_strategies(shelf: Shelf, strategies: Sequence[Strategy], now_s: int) -> dict[str, Reach]:
    """Try strategies as a publication would, on the parts that are there; measure their reach.

    The parts are those that decide now, or before the first release those kept for it; without
    a snapshot there is no reach. Raises InvalidInput.
    """
    base = shelf.releases.current() or shelf.releases.staged()
    models = load_model_set(shelf.models_folder, base.models) if base.models else None
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


def snapshot_of(shelf: Shelf, snapshot_id: str) -> SnapshotManifest:
    """Give a loaded snapshot's manifest; raises StartupError when it can't serve here."""
    snapshot = fetch_manifest(shelf.client, shelf.namespace, snapshot_id)
    if snapshot is None:
        raise StartupError(
            f"snapshot {snapshot_id} is not in the store: publish it again (rta profiles publish)"
        )
    if snapshot.pepper_id != shelf.pepper_id:
        raise StartupError(
            f"snapshot {snapshot.snapshot_id} hides ids under another pepper: build it with the "
            "pepper of this service (RTA_PEPPER, or the same data folder)"
        )
    return snapshot


def _strategies(shelf: Shelf, release: Release) -> tuple[Strategy, ...]:
    text = shelf.releases.get_strategies(release.strategies_id)
    if text is None:
        raise StartupError(f"strategies {release.strategies_id} are not in the store")
    return parse(text)


class StoredReleases:
    """Finds releases in the store and makes them ready off the event loop."""

    def __init__(self, client: AsyncClient, namespace: str, shelf: Callable[[], Shelf]) -> None:
        self._reader = AsyncReleaseReader(client, namespace)
        self._shelf = shelf

    async def current_id(self) -> str:
        """Name the release that should decide; empty when none was published."""
        return await self._reader.current_id() or ""

    async def load(self, release_id: str) -> LiveRelease:
        """Load a release in a thread; raises RTAError when a part is not right."""
        return await asyncio.to_thread(lambda: load(self._shelf(), release_id))


class Desk:
    """What the control port may do with releases."""

    def __init__(self, shelf: Callable[[], Shelf], clock: Clock) -> None:
        self._shelf = shelf
        self._clock = clock

    def current(self) -> Release | None:
        """Give the release that the pointer names."""
        return self._shelf().releases.current()

    def history(self, count: int) -> list[Release]:
        """Give the newest releases, the current one first."""
        return self._shelf().releases.history(count)

    def rollback(self) -> Release:
        """Let the release before the current one decide again."""
        return self._shelf().releases.rollback(self._clock.now_ms())
