"""All guards: one a question, read together with what each may spend of the chance to be wrong."""

from collections.abc import Callable
from typing import Final

from rta_service.nearline.autopilot.arm_guards import (
    arm_calibration,
    arm_money,
    sample_ratio,
    slow_decisions,
)
from rta_service.nearline.autopilot.evidence import Evidence
from rta_service.nearline.autopilot.paired_guards import (
    calibration,
    claim,
    drift,
    log_loss,
    money,
    ranking,
    scoring_time,
    segments,
    soundness,
)
from rta_service.nearline.autopilot.pairs import pairs_of
from rta_service.nearline.autopilot.policy import Policy
from rta_service.nearline.autopilot.ranking import ranking_gap
from rta_service.nearline.autopilot.reading import Case, Reading

GUARDS: Final[tuple[Callable[[Case], Reading], ...]] = (
    soundness,
    calibration,
    segments,
    log_loss,
    ranking,
    claim,
    money,
    drift,
    scoring_time,
    slow_decisions,
    sample_ratio,
    arm_calibration,
    arm_money,
)
TESTS: Final = 11
"""Guards by chance: all but soundness and drift, which are plain limits."""


def read_guards(
    evidence: Evidence, policy: Policy, claimed_gap: float | None = None
) -> tuple[Reading, ...]:
    """Read every guard; `claimed_gap` is the claimed AUC less the live model's claimed AUC."""
    pairs = pairs_of(evidence)
    stop = policy.false_stop / TESTS
    case = Case(evidence, policy, claimed_gap, evidence.level, pairs, ranking_gap(pairs), stop)
    return tuple(guard(case) for guard in GUARDS)
