"""What follows from the evidence: waiting, one rung up, or back."""

from typing import Any

import msgspec
import numpy as np
import pytest

from rta_service.domain.rollout import MILLION, Phase
from rta_service.nearline.autopilot.evidence import Evidence, Split
from rta_service.nearline.autopilot.judge import Judgement, Standing, judge, judge_together
from rta_service.nearline.autopilot.observing import count_people
from rta_service.nearline.autopilot.policy import Policy

POLICY = Policy()
DAY_MS = 86_400_000
SHADOW = Standing(Phase.SHADOW)


def canary(share: int) -> Standing:
    return Standing(Phase.CANARY, share)


def with_people(evidence: Evidence, share: int) -> Evidence:
    return count_people(evidence, share, Split(MILLION - share, share))


def test_a_candidate_that_every_guard_clears_goes_up_rung_by_rung(market: Any) -> None:
    evidence = market.evidence()
    for share in (1_000, 10_000, 100_000):
        evidence = with_people(evidence, share)

    steps = [
        judge(standing, evidence, POLICY, 2 * DAY_MS)
        for standing in (SHADOW, canary(1_000), canary(10_000), canary(100_000))
    ]

    assert [one.action for one in steps] == ["promote"] * 4
    assert [one.share_millionths for one in steps] == [1_000, 10_000, 100_000, MILLION]


def test_a_share_that_a_person_chose_goes_on_to_the_next_rung(market: Any) -> None:
    found = judge(canary(5_000), with_people(market.evidence(), 5_000), POLICY, 2 * DAY_MS)

    assert (found.action, found.share_millionths) == ("promote", 10_000)


def test_what_is_lacking_is_said_with_figures(market: Any) -> None:
    found = judge(canary(1_000), market.evidence(10_000), POLICY, 60_000)

    assert found.action == "wait"
    assert found.share_millionths == 1_000
    assert "1 of 360 minutes in this step" in found.reasons
    assert "0 of 300 people in its arm" in found.reasons
    assert any("of 2,000 matured positives" in reason for reason in found.reasons)


def test_an_alarm_goes_back_at_once_and_explains_itself(market: Any) -> None:
    evidence = market.evidence(spoil=lambda scores: np.minimum(scores * 1.3, 1.0))

    found = judge(canary(100_000), evidence, POLICY, 0)

    assert (found.action, found.share_millionths) == ("roll_back", 0)
    assert found.reasons[0].startswith("calibration: 1.")
    assert ", allowed 0.9" in found.reasons[0]


def test_what_cannot_be_told_from_harm_waits_until_patience_ends(market: Any) -> None:
    evidence = market.evidence(8_000)

    early = judge(SHADOW, evidence, POLICY, 2 * DAY_MS)
    late = judge(SHADOW, evidence, POLICY, 28 * DAY_MS)

    assert early.action == "wait"
    assert late.action == "roll_back"
    assert late.reasons[0] == "not shown to be good in 28.0 days"
    assert set(early.reasons) <= set(late.reasons)


@pytest.mark.parametrize("phase", [Phase.LIVE, Phase.STAGED, Phase.PREVIOUS, Phase.ARCHIVED])
def test_what_is_not_on_trial_is_left_alone(market: Any, phase: Phase) -> None:
    found = judge(Standing(phase), market.evidence(100), POLICY, 0)

    assert found == Judgement("wait", 0, (f"{phase} is not on trial",))


def test_a_leak_is_known_by_its_claim(market: Any) -> None:
    standing = Standing(Phase.SHADOW, claimed_auc=0.93, live_claimed_auc=0.76)

    found = judge(standing, market.evidence(), POLICY, 2 * DAY_MS)

    assert found.action == "roll_back"
    assert [reason.partition(":")[0] for reason in found.reasons] == ["claim"]


def test_one_claim_alone_is_not_compared() -> None:
    assert Standing(Phase.SHADOW, claimed_auc=0.93).claimed_gap is None


def test_of_models_that_move_together_the_worst_decides() -> None:
    go = Judgement("promote", 10_000, ("every guard is clear",))
    stay = Judgement("wait", 1_000, ("3 of 300 people in its arm",))
    back = Judgement("roll_back", 0, ("auc: worse",))

    assert judge_together([go, go]) == go
    assert judge_together([go, stay, stay]) == stay
    assert judge_together([go, back, stay]) == back


def test_a_judgement_can_be_kept_as_json(market: Any) -> None:
    found = judge(SHADOW, market.evidence(3_000), POLICY, 0)

    assert msgspec.json.decode(msgspec.json.encode(found), type=Judgement) == found
