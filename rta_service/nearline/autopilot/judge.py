"""Wait, promote or roll back: what follows from the evidence, with every figure behind it."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from rta_service.domain.rollout import MILLION, Phase
from rta_service.nearline.autopilot.evidence import Evidence, Split
from rta_service.nearline.autopilot.guards import read_guards
from rta_service.nearline.autopilot.policy import Policy, Step
from rta_service.nearline.autopilot.reading import Reading, State

_MINUTE_MS: Final = 60_000
_BY_URGENCY: Final = ("roll_back", "wait", "promote")


class Standing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the candidate stands now."""

    phase: Phase
    share_millionths: int = 0
    """Of the canary; 0 in shadow."""
    since_ms: int = 0
    """When this step began."""
    claimed_auc: float | None = None
    """The AUC of its manifest's evaluation."""
    live_claimed_auc: float | None = None
    """The same of the live version; both together cancel what differs from evaluation rows."""

    @property
    def claimed_gap(self) -> float | None:
        """Claimed AUC over the live version's; None where either claims none."""
        if self.claimed_auc is None or self.live_claimed_auc is None:
            return None
        return self.claimed_auc - self.live_claimed_auc


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do, why, and every guard's figure."""

    action: Literal["wait", "promote", "roll_back"]
    share_millionths: int
    """The share from now on: MILLION is live, 0 is no canary."""
    reasons: tuple[str, ...]
    readings: tuple[Reading, ...] = ()


def judge(standing: Standing, evidence: Evidence, policy: Policy, now_ms: int) -> Judgement:
    """Judge one model on trial; may be called at any time and as often as one likes.

    Any guard's alarm rolls back. Promotion asks for the step's least evidence and for every guard
    to be clear, so that what can't be told apart from harm waits, until patience ends.
    """
    share = standing.share_millionths if standing.phase is Phase.CANARY else 0
    if standing.phase not in {Phase.SHADOW, Phase.CANARY}:
        return Judgement("wait", share, (f"{standing.phase} is not on trial",))
    readings = read_guards(evidence, policy, standing.claimed_gap)
    alarms = _words(readings, State.ALARM)
    if alarms:
        return Judgement("roll_back", 0, alarms, readings)
    step = max((one for one in policy.ladder if one.share_millionths <= share), key=_share)
    minutes = (now_ms - standing.since_ms) // _MINUTE_MS
    lacking = (*_lacking(step, share, evidence, minutes), *_words(readings, State.UNSURE))
    if not lacking:
        following = next((o.share_millionths for o in policy.ladder if _share(o) > share), MILLION)
        return Judgement("promote", following, ("every guard is clear",), readings)
    if minutes >= policy.patience_minutes:
        waited = f"not shown to be good in {minutes / 1_440:.1f} days"
        return Judgement("roll_back", 0, (waited, *lacking), readings)
    return Judgement("wait", share, lacking, readings)


def judge_together(judgements: Sequence[Judgement]) -> Judgement:
    """Join the judgements of models that move as one canary: the most careful one decides."""
    action = min((one.action for one in judgements), key=_BY_URGENCY.index)
    decisive = [one for one in judgements if one.action == action]
    return Judgement(
        action,
        min(one.share_millionths for one in decisive),
        tuple(dict.fromkeys(reason for one in decisive for reason in one.reasons)),
        tuple(reading for one in judgements for reading in one.readings),
    )


def _share(step: Step) -> int:
    return step.share_millionths


def _lacking(step: Step, share: int, evidence: Evidence, minutes: int) -> list[str]:
    """Say what of the step's least evidence is not there yet."""
    people = evidence.people.get(str(share), Split()).candidate
    found = (
        ("minutes in this step", minutes, step.minutes),
        ("matured positives", evidence.level.positives, step.positives),
        ("people in its arm", people, step.people),
    )
    return [f"{have:,} of {need:,} {what}" for what, have, need in found if have < need]


def _words(readings: Sequence[Reading], state: State) -> tuple[str, ...]:
    return tuple(_sentence(reading) for reading in readings if reading.state is state)


def _sentence(reading: Reading) -> str:
    """Write a reading in words: figure, interval, limits."""
    if reading.figure is None:
        return f"{reading.guard}: {reading.words}"
    found = f"{reading.figure:.4g}"
    if reading.low is not None or reading.high is not None:
        found += f" ({_edge(reading.low)} to {_edge(reading.high)})"
    if reading.allowed_low is not None or reading.allowed_high is not None:
        found += f", allowed {_edge(reading.allowed_low)} to {_edge(reading.allowed_high)}"
    return f"{reading.guard}: {found}; {reading.words}"


def _edge(value: float | None) -> str:
    return "any" if value is None else f"{value:.4g}"
