"""What a candidate must show before it decides for more people, and what stops it."""

from typing import Final

import msgspec

from rta_service.domain.rollout import MILLION

DAY: Final = 1_440
"""Minutes."""
HOUR: Final = 60
_HALF: Final = 0.5


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rung: the share of people, and the least evidence before the next rung."""

    share_millionths: int
    """0 is shadow."""
    people: int
    """People of the candidate's arm met at this share."""
    positives: int
    """Matured positives of the whole trial that both models scored."""
    minutes: int
    """Since the step began."""


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ladder, and a margin for every guard: beyond it for sure stops, within it for sure passes."""

    ladder: tuple[Step, ...] = (
        Step(0, people=0, positives=2_000, minutes=DAY),
        Step(1_000, people=300, positives=2_000, minutes=6 * HOUR),
        Step(10_000, people=3_000, positives=2_500, minutes=12 * HOUR),
        Step(100_000, people=30_000, positives=3_000, minutes=DAY),
    )
    patience_minutes: int = 28 * DAY
    """A candidate that could not be shown to be good in one step by then is stopped."""
    false_stop: float = 0.02
    """Chance that a candidate within all margins is ever stopped by a test, over all looks."""
    false_pass: float = 0.02
    """Chance, for each guard, that a candidate at its margin is ever passed by it."""
    pcoc_margin: float = 1.1
    """Predictions over outcomes, or over the live model's, lie between 1/this and this."""
    segment_margin: float = 1.3
    """The same in every segment."""
    loss_margin: float = 0.025
    """Log loss may be this much above the live model's, in nats a positive; training on other rows
    alone moves it by some 0.005."""
    auc_margin: float = 0.015
    """AUC may be this much below the live model's."""
    claim_margin: float = 0.04
    """AUC on matured labels may be this much below what the candidate's manifest claims."""
    money_margin: float = 0.05
    """Loss of surplus by the candidate's bids, as a share of the live model's."""
    arm_margin: float = 1.25
    """PCOC of what the candidate's own arm decided."""
    arm_money_margin: float = 0.3
    """Loss of surplus of the candidate's arm, as a share of the live arm's cost."""
    psi_margin: float = 0.5
    """Population stability index of the candidate's scores against the live model's."""
    spend_margin: float = 1.5
    """Mean score, and so spending, over the live model's."""
    time_margin: float = 1.5
    """Scoring time over the live model's, at the median."""
    slow_us: float = 16_000.0
    """A decision that takes longer is slow: the p99 that platforms reward."""
    slow_share: float = 0.02
    """Share of slow decisions in the candidate's arm, apart from the live arm's own."""

    def __post_init__(self) -> None:
        shares = [step.share_millionths for step in self.ladder]
        if not shares or shares[0] != 0 or sorted(set(shares)) != shares or shares[-1] >= MILLION:
            raise ValueError(f"the ladder must rise from 0 (shadow) to below {MILLION}: {shares}")
        if self.ladder[0].positives < 1:
            raise ValueError("the first step must ask for matured positives")
        if not (0.0 < self.false_stop < _HALF and 0.0 < self.false_pass < _HALF):
            raise ValueError("false_stop and false_pass are chances between 0 and 0.5")
