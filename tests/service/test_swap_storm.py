"""Swap after swap under load: nobody mixes versions, nobody stays behind, nothing grows.

RTA_STORM_SWAPS shortens it: 1,000 swaps take 10 minutes. RTA_STORM_RATE is the requests a second.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from rta_service.domain import rollout
from rta_service.domain.clock import SystemClock
from rta_service.domain.release import ModelRef, Release
from rta_service.releasing.trying import weighed
from rta_service.simulation.traffic import SimulatedRequest

SWAPS = int(os.environ.get("RTA_STORM_SWAPS", "1000"))
PACE_S = 0.6
RATE = float(os.environ.get("RTA_STORM_RATE", "300"))
BOUND_MS = 250.0
GROWTH = 0.01
WARM_UP_SWAPS = 24
RATES = {f"storm-{number}": 0.002 * number for number in range(1, 5)}
"""Version to its only prediction: an answer shows whose calibration made it."""

log = logging.getLogger(__name__)


@dataclass
class Consistency:
    """Judges that version, prediction and mean value of an answer are of one arm."""

    versions: dict[str, set[str]] = field(default_factory=dict)

    def judge(self, _request: SimulatedRequest, answer: dict[str, Any]) -> str:
        told = answer["versions"]
        version = told["models"]["trade"]
        allowed = self.versions.get(told["release"])
        if allowed is None:
            return ""  # the world's own release, before the storm
        if version not in allowed:
            return f"trade {version} in {told['release']}, which has {allowed}"
        for strategy in answer["strategies"]:
            pcvr, bid = strategy["pcvr"], strategy["bid"]
            if pcvr and abs(pcvr["trade"] - RATES[version]) > 1e-12:
                return f"{pcvr['trade']} in the name of {version}"
            # value over mean is 1 for everybody, unless value and mean are of different arms
            if bid and strategy["strategy_id"] in TRADERS and abs(bid["value"] - 1.0) > 1e-9:
                return f"{strategy['strategy_id']}: weight {bid['value']} by {version}"
        return ""


TRADERS = ("wake_traders", "more_trades")
"""Strategies that weigh by the trade head."""


class Storm:
    """Canary, live and back, over and over, by turns through all versions."""

    def __init__(self, board: Any, check: Consistency) -> None:
        self._board = board
        self._check = check
        world = board.service.world.release
        (old,) = (ref for ref in world.models if ref.name == "trade")
        self._refs: list[ModelRef] = [
            board.put(old, v, scale=0.0, shift=rate) for v, rate in RATES.items()
        ]
        self._means: dict[ModelRef, dict[str, float]] = {}
        arm = world
        for ref in self._refs:
            models = tuple(ref if one == old else one for one in world.models)
            draft = msgspec.structs.replace(world, models=models, mean_values={})
            arm = weighed(board.shelf, board.named(draft))
            self._means[ref] = arm.mean_values
        self._now = msgspec.structs.replace(arm, previous=())
        self.number = 0

    def swap(self) -> list[float]:
        """Make the next swap; gives each worker's milliseconds from the commit to its switch."""
        steps = (self._canary, self._live, self._back, self._canary, self._live)
        draft = steps[self.number % len(steps)]()
        at_once = self.number > 0 and self.number % len(steps) == 2
        self.number += 1
        (live,) = (ref for ref in draft.models if ref.name == "trade")
        draft = msgspec.structs.replace(draft, mean_values=self._means[live])
        if draft.canary is not None:
            means = self._means[draft.canary.models[0]]
            canary = msgspec.structs.replace(draft.canary, mean_values=means)
            draft = msgspec.structs.replace(draft, canary=canary)
        release = self._board.named(draft)
        self._allow(release)
        lags_ms: list[float] = self._board.move(release, at_once=at_once)
        self._now = release
        return lags_ms

    def _next(self) -> ModelRef:
        (live,) = (ref for ref in self._now.models if ref.name == "trade")
        return self._refs[(self._refs.index(live) + 1) % len(self._refs)]

    def _canary(self) -> Release:
        shadowed = rollout.to_shadow(self._now, [self._next()])
        return rollout.to_canary(shadowed, [self._next()], 100_000, 1)

    def _live(self) -> Release:
        assert self._now.canary is not None
        return rollout.to_live(self._now, self._now.canary.models)

    def _back(self) -> Release:
        return rollout.roll_back(self._now)

    def _allow(self, release: Release) -> None:
        deciding = (*release.models, *(release.canary.models if release.canary else ()))
        self._check.versions[release.release_id] = {
            ref.version for ref in deciding if ref.name == "trade"
        }


def rss_kb(service: Any) -> dict[int, int]:
    """Resident memory of each decision worker."""
    lines = (service.settings.data_dir / "serve.log").read_text().splitlines()
    events = [msgspec.json.decode(line) for line in lines if line.startswith("{")]
    ready = [e for e in events if e["event"] == "child_ready" and "decision" in e["child"]]
    found = {}
    for pid in (event["pid"] for event in ready):
        status = Path(f"/proc/{pid}/status").read_text()
        found[pid] = int(status.split("VmRSS:")[1].split()[0])
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_swaps_in_ten_minutes_mix_nothing_and_leave_nobody_behind(
    start_service: Any, switchboard: Any, a_load: Callable[..., Any]
) -> None:
    check, clock = Consistency(), SystemClock()
    lags_ms: list[float] = []
    warm_kb: dict[int, int] = {}
    with start_service(2) as service, switchboard(service) as board:
        storm = Storm(board, check)
        with a_load(service, check.judge, rate_per_s=RATE) as load:
            began_s = clock.monotonic_s()
            for number in range(SWAPS):
                lags_ms += storm.swap()
                if number == min(WARM_UP_SWAPS, SWAPS // 2):
                    warm_kb = rss_kb(service)
                due_s = began_s + (number + 1) * PACE_S
                threading.Event().wait(max(due_s - clock.monotonic_s(), 0.0))
            spent_s = clock.monotonic_s() - began_s
            last_kb = rss_kb(service)
        broken_link = board.releases.verify_audit()

    growth = max(last_kb[pid] / warm_kb[pid] - 1.0 for pid in warm_kb)
    late_ms = np.percentile(np.array(load.latencies_s) * 1000, [50, 99, 99.9])
    log.warning(
        "%d swaps in %.0f s, %d answers (%d judged, %d degraded); commit to switch ms: median "
        "%.0f, p99 %.0f, max %.0f; latency ms p50/p99/p99.9 %s; RSS growth %.2f %%, kB %s to %s",
        *(SWAPS, spent_s, len(load.latencies_s), load.judged, load.degraded),
        *(np.median(lags_ms), np.percentile(lags_ms, 99), max(lags_ms)),
        *(late_ms.round(1), 100 * growth, warm_kb, last_kb),
    )
    assert load.faults == {}
    assert load.errors == {}
    assert load.degraded <= 0.01 * load.judged
    assert max(lags_ms) <= BOUND_MS
    assert growth <= GROWTH
    assert last_kb.keys() == warm_kb.keys()
    assert broken_link is None
