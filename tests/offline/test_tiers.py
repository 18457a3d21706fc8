"""Tiers from money and role, whatever the stage."""

import numpy as np
import pytest

from rta_service.domain.thresholds import Thresholds
from rta_service.domain.user import Role, ValueTier
from rta_service.offline.tiers import tier_codes
from rta_service.record import FLAG_OPTED_OUT

CUTS = Thresholds(10, 20, 5, 3, 900, tier_s_cents=5000, tier_a_cents=900, tier_b_cents=200)


def tier(**facts: int) -> ValueTier:
    names = ("cents", "orders", "flags", "role", "sales", "registered_at", "browses")
    columns = {name: np.array([facts.get(name, 0)]) for name in names}
    return ValueTier(int(tier_codes(columns, CUTS)[0]))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"orders": 1, "cents": 5000}, ValueTier.S),
        ({"orders": 1, "cents": 4999}, ValueTier.A),
        ({"orders": 9, "cents": 899}, ValueTier.B),
        ({"orders": 1, "cents": 199}, ValueTier.C),
        ({"orders": 1, "cents": -50}, ValueTier.C),
        ({"sales": 1}, ValueTier.C),
        ({"registered_at": 1, "browses": 1}, ValueTier.C),
        ({"registered_at": 1}, ValueTier.D),
        ({"browses": 99}, ValueTier.D),
        ({"cents": 9999}, ValueTier.D),
        ({"orders": 1, "cents": 9999, "flags": FLAG_OPTED_OUT}, ValueTier.X),
        ({"orders": 1, "cents": 9999, "role": int(Role.PROFESSIONAL_SELLER)}, ValueTier.X),
        ({"orders": 1, "cents": 9999, "role": int(Role.PRIVATE_SELLER)}, ValueTier.S),
    ],
)
def test_a_tier_follows_from_money_and_role(facts: dict[str, int], expected: ValueTier) -> None:
    assert tier(**facts) is expected
