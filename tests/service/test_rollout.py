"""A model's way from staged to live and back, on a running service under load."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rta_service import wiring
from rta_service.device_key import canonical_md5
from rta_service.domain import rollout
from rta_service.domain.audit import AuditEntry
from rta_service.domain.clock import SystemClock
from rta_service.domain.release import ModelRef, Release
from rta_service.online.score import Candidate, score
from rta_service.platforms.registry import load_adapters
from rta_service.releasing.activation import activate
from rta_service.releasing.trying import weighed
from rta_service.scoring.model_set import load_model_set
from rta_service.simulation.traffic import SimulatedRequest
from rta_service.stores.snapshots import fetch_manifest, find_record

BOUND_MS = 250.0
DEED = AuditEntry(1, "cli:ann", "rollout", "trade storm-2")


def expected_predictions(
    switchboard: Any, requests: list[SimulatedRequest], versions: dict[str, tuple[ModelRef, ...]]
) -> dict[tuple[str, str], float]:
    """Predict P(trade) of each request by each version, from the record and the files alone."""
    shelf, settings = switchboard.shelf, switchboard.service.settings
    keys, platform = wiring.key_ring(settings), load_adapters()["json"].info
    snapshot = fetch_manifest(
        shelf.client, shelf.namespace, switchboard.service.world.release.snapshot_id
    )
    assert snapshot is not None
    candidates, names = [], []
    for request in requests:
        (sent,) = request.ids
        md5 = canonical_md5(sent.kind, sent.value, sent.form)
        key = keys.device_key(md5) if md5 else b""
        record = find_record(shelf.client, shelf.namespace, snapshot, key) if key else None
        if record is not None:
            context = (platform.code, int(request.os), int(request.placement))
            candidates.append(Candidate(record, *context))
            names.append(request.request_id)
    now_s = SystemClock().now_ms() // 1000
    found = {}
    for version, refs in versions.items():
        models = load_model_set(shelf.models_folder, refs)
        for name, scores in zip(names, score(models, ["trade"], candidates, now_s), strict=True):
            found[(name, version)] = scores["trade"]
    return found


def plain_requests(service: Any) -> list[SimulatedRequest]:
    """Requests of the json platform that carry one id, of a device that has a record."""
    return [
        request
        for request in service.requests(4_000)
        if request.platform == "json"
        and request.known
        and not request.is_ping
        and len(request.ids) == 1
        and request.ids[0].trusted
    ]


@dataclass
class Arms:
    """Which version may answer in which release, and what each predicts; judges answers by it."""

    expected: dict[tuple[str, str], float]
    versions: dict[str, set[str]] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)
    turned: set[str] = field(default_factory=set)
    """Requests for whom time passed an age that a tree asks for."""

    def allow(self, release: Release) -> None:
        deciding = (*release.models, *(release.canary.models if release.canary else ()))
        self.versions[release.release_id] = {r.version for r in deciding if r.name == "trade"}

    def judge(self, request: SimulatedRequest, answer: dict[str, Any]) -> str:
        release, version = answer["versions"]["release"], answer["versions"]["models"]["trade"]
        if version not in self.versions[release]:
            return f"{release} does not know trade {version}"
        self.seen.add((release, version))
        wanted = self.expected.get((request.request_id, version))
        told = {s["pcvr"]["trade"] for s in answer["strategies"] if s["pcvr"]}
        if wanted is None or not told or told == {wanted}:
            return ""
        by = {
            v
            for (name, v), p in self.expected.items()
            if name == request.request_id and {p} == told
        }
        if by:
            return f"predicted by {by} in the name of {version}"
        self.turned.add(request.request_id)
        return ""


def test_a_version_goes_through_canary_to_live_and_back_and_every_answer_is_one_arms(
    start_service: Any, switchboard: Any, a_load: Callable[..., Any]
) -> None:
    with start_service(2) as service, switchboard(service) as board:
        first = service.world.release
        (old,) = (ref for ref in first.models if ref.name == "trade")
        new = board.put(old, "storm-2", scale=0.5)
        with_new = tuple(new if ref == old else ref for ref in first.models)
        requests = plain_requests(service)
        by_version = {old.version: first.models, new.version: with_new}
        arms = Arms(expected_predictions(board, requests, by_version))
        arms.allow(first)

        def move(draft: Release, *, at_once: bool = False) -> tuple[Release, list[float]]:
            release = weighed(board.shelf, board.named(draft))
            arms.allow(release)
            return release, board.move(release, at_once=at_once)

        with a_load(service, arms.judge, requests, rate_per_s=200.0) as load:
            shadow = board.named(rollout.to_shadow(first, [new]))
            arms.allow(shadow)
            tried = activate(board.shelf, shadow, DEED)
            canary, lags_ms = move(rollout.to_canary(tried, [new], 100_000, 1))
            threading.Event().wait(1.0)
            live, more_ms = move(rollout.to_live(canary, [new]))
            threading.Event().wait(0.5)
            back, most_ms = move(rollout.roll_back(live), at_once=True)
            threading.Event().wait(0.5)

    assert load.faults == {}
    assert load.errors == {}
    assert load.degraded <= 0.02 * load.judged
    assert {(canary.release_id, v) for v in by_version} <= arms.seen
    assert {(live.release_id, new.version), (back.release_id, old.version)} <= arms.seen
    assert len(arms.turned) <= 0.02 * len(requests)
    assert max(*lags_ms, *more_ms, *most_ms) <= BOUND_MS
