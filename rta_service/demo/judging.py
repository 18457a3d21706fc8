"""Whether the service did right: its answers against the snapshot they should follow from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rta_service.demo.platforms import Answer
from rta_service.demo.play import Played
from rta_service.device_key import KeyRing, canonical_md5
from rta_service.domain.reason import DEGRADED, ReasonCode
from rta_service.domain.thresholds import Thresholds
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.record import stage_at, unpack
from rta_service.simulation.traffic import SimulatedId, SimulatedRequest
from rta_service.snapshot_folder import read_arrays, read_manifest

_SLEEPING: Final = (LifecycleStage.SILENT, LifecycleStage.CHURNED)
_WAKE: Final = (ValueTier.S, ValueTier.A, ValueTier.B)
_FILTERED: Final = {
    ReasonCode.SILENT_LOW_VALUE.label: LifecycleStage.SILENT,
    ReasonCode.CHURNED_LOW_VALUE.label: LifecycleStage.CHURNED,
}
_DEGRADED: Final = {reason.label for reason in DEGRADED}
MAX_DEGRADED_SHARE: Final = 0.01
"""Generator, service and store share the machine with whatever else runs on it."""
STAGE_SLACK_S: Final = 120
"""A stage may turn between the answer and our look at it; such a person proves nothing."""


@dataclass(frozen=True, slots=True)
class Who:
    """What the snapshot says of the person behind a request."""

    stage: LifecycleStage | None
    """None when it turned within the last minutes."""
    tier: ValueTier


@dataclass(frozen=True, slots=True)
class Check:
    """One self-check and what it found."""

    name: str
    held: bool
    found: str


class Oracle:
    """Looks people up in the snapshot folder, on no path that the service takes."""

    def __init__(self, snapshot: Path, keys: KeyRing, now_s: int) -> None:
        manifest = read_manifest(snapshot)
        device_keys, self._records = read_arrays(snapshot, manifest)
        self._thresholds: Thresholds = manifest.thresholds
        self._rows = {key.tobytes(): row for row, key in enumerate(device_keys)}
        self._keys = keys
        self._now_s = now_s

    def who(self, request: SimulatedRequest) -> Who | None:
        """Find the person of a request; None for a stranger, or where ids or time leave a doubt.

        Two trusted ids may have different records: a device that never signed in is a person of
        its own under each id the app or an ad saw.
        """
        found = {self._who(i) for i in request.ids if i.trusted} - {None}
        if not found:
            found = {self._who(i) for i in request.ids} - {None}
        return found.pop() if len(found) == 1 else None

    def _who(self, sent: SimulatedId) -> Who | None:
        md5 = canonical_md5(sent.kind, sent.value, sent.form)
        row = self._rows.get(self._keys.device_key(md5)) if md5 else None
        if row is None:
            return None
        record = unpack(self._records[row].tobytes())
        early = stage_at(record, self._now_s - STAGE_SLACK_S, self._thresholds)
        late = stage_at(record, self._now_s, self._thresholds)
        return Who(late if early == late else None, ValueTier(record.tier))


def judge(played: Played, oracle: Oracle, release_id: str) -> list[Check]:
    """Check everything that must hold whatever chance brought."""
    invalid = Counter(a for a in played.answers if isinstance(a, str))
    unanswered = sum(a is None for a in played.answers)
    people = [oracle.who(request) for request in played.requests]
    pairs = [
        (who, answer)
        for who, answer in zip(people, played.answers, strict=True)
        if isinstance(answer, Answer)
    ]
    told = [(who, answer) for who, answer in pairs if answer.reason]  # the json platform's
    named = {answer.release for _, answer in told}
    return [
        Check("every answer is valid for its platform", not invalid, _list(invalid) or "all"),
        Check("every request was answered", not unanswered, f"{unanswered} unanswered"),
        Check("no connection failed", not played.load.errors, _list(played.load.errors) or "none"),
        Check("under 1 % of answers were degraded", *_few(_degraded(told), len(told))),
        Check("the filtered are of the filtered kind", *_none(_wrongly_filtered(pairs))),
        Check("nobody below tier B was woken", *_none(_wrongly_woken(pairs))),
        Check("nobody of tier X was bid for", *_none(_bid_for_x(pairs))),
        Check("every answer names the one release", named == {release_id}, ", ".join(named)),
        Check("some were filtered, some woken", *_both_happen(pairs)),
    ]


Pairs = Sequence[tuple[Who | None, Answer]]


def _degraded(pairs: Pairs) -> int:
    return sum(answer.reason in _DEGRADED for _, answer in pairs)


def _wrongly_filtered(pairs: Pairs) -> int:
    """Count answers that name a stage as the reason which the person is not in."""
    return sum(
        who is not None
        and answer.reason in _FILTERED
        and who.stage is not None
        and (who.stage is not _FILTERED[answer.reason] or who.tier in _WAKE)
        for who, answer in pairs
    )


def _wrongly_woken(pairs: Pairs) -> int:
    return sum(
        who is not None and answer.participate and who.stage in _SLEEPING and who.tier not in _WAKE
        for who, answer in pairs
    )


def _bid_for_x(pairs: Pairs) -> int:
    return sum(
        who is not None and answer.participate and who.tier is ValueTier.X for who, answer in pairs
    )


def _both_happen(pairs: Pairs) -> tuple[bool, str]:
    filtered = sum(answer.reason in _FILTERED for _, answer in pairs)
    woken = sum(answer.reason == ReasonCode.WOKEN.label for _, answer in pairs)
    return filtered > 0 and woken > 0, f"{filtered} filtered, {woken} woken of the json answers"


def _none(count: int) -> tuple[bool, str]:
    return count == 0, f"{count} did"


def _few(count: int, total: int) -> tuple[bool, str]:
    held = count < max(total * MAX_DEGRADED_SHARE, 1)
    return held, f"{count} of {total} json answers"


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in list(counts.items())[:3])


def sleeping_shares(pairs: Pairs) -> dict[str, dict[str, float]]:
    """Give the shares of silent and churned people that were filtered and woken."""
    shares = {}
    for stage in _SLEEPING:
        answers = [answer for who, answer in pairs if who is not None and who.stage is stage]
        yes = sum(answer.participate for answer in answers)
        total = max(len(answers), 1)
        shares[stage.label] = {
            "requests": len(answers),
            "filtered": (len(answers) - yes) / total,
            "woken": yes / total,
        }
    return shares
