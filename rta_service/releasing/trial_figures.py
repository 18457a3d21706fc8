"""What is known of a version on trial: what people look at before they widen, go live or stop."""

from typing import Any

import msgspec

from rta_service.domain.release import ModelRef, Release
from rta_service.domain.rollout import Phase
from rta_service.nearline.autopilot.evidence import ArmRecord, Evidence, Split, counts
from rta_service.nearline.autopilot.policy import Policy
from rta_service.releasing.autopilot_run import gather, judge_trial
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.trials import Trial, trials_of
from rta_service.stores.trial_store import TrialStore


def figures_of(
    shelf: Shelf, release: Release | None, ref: ModelRef, now_ms: int
) -> dict[str, Any] | None:
    """Give a version's figures beside the live one's, and what the autopilot makes of them.

    Those of all hosts together, as plain JSON; None for a version that is not on trial. Whether
    the autopilot is on does not matter here, nothing is moved.
    """
    trials = [trial for trial in trials_of(release) if trial.candidate == ref]
    if release is None or not trials:
        return None
    trial = trials[0]
    evidence, _ = gather(TrialStore(shelf.client, shelf.namespace), trial)
    judgement = judge_trial(shelf, release, trial, Policy(), now_ms)
    return {
        "phase": trial.phase.value,
        "against": trial.live.version,
        **_counted(evidence, trial, release),
        "autopilot": {"action": judgement.action, "reasons": list(judgement.reasons)},
        "guards": [msgspec.to_builtins(reading) for reading in judgement.readings],
    }


def _counted(evidence: Evidence, trial: Trial, release: Release) -> dict[str, Any]:
    level = evidence.level
    canary = release.canary if trial.phase is Phase.CANARY else None
    share = canary.share_millionths if canary else 0
    return {
        "share_millionths": share,
        "sampled": {
            "rows": int(counts(evidence.live_scores).sum()),
            "mean_ratio": _ratio(evidence.candidate_sum, evidence.live_sum),
            "unsound": evidence.unsound,
        },
        "outcomes": {
            "rows": level.rows,
            "positives": level.positives,
            "live_pcoc": _ratio(level.live, level.positives),
            "candidate_pcoc": _ratio(level.candidate, level.positives),
        },
        "arms": {"live": _arm(evidence.arm_live), "candidate": _arm(evidence.arm_candidate)},
        "people": msgspec.to_builtins(evidence.people.get(str(share), Split())),
    }


def _arm(arm: ArmRecord) -> dict[str, Any]:
    """Say what came of the rows that an arm decided; counts are of sampled rows and outcomes."""
    return {
        "decided": arm.decided,
        "participated": arm.participated,
        "matured": arm.matured,
        "positives": arm.positives,
        "pcoc": _ratio(arm.promised, arm.positives),
    }


def _ratio(one: float, other: float) -> float | None:
    return one / other if other else None
