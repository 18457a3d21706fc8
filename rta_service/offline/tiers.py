"""The value tier: how much a person is worth whatever their stage, for records and model cards."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.thresholds import Thresholds
from rta_service.domain.user import Role, ValueTier
from rta_service.record import FLAG_OPTED_OUT

Columns = Mapping[str, NDArray[np.int64]]
"""The columns of history.record_columns as arrays of one length."""


def tier_codes(columns: Columns, thresholds: Thresholds) -> NDArray[np.int64]:
    """Give ValueTier codes from money, orders and role, never from the stage or recency.

    X: opted out, or a professional seller. S, A, B: payers by net money. C: other payers, sellers,
    and those who registered and browsed. D: the rest.
    """
    cents, is_payer = columns["cents"], columns["orders"] > 0
    is_never = ((columns["flags"] & FLAG_OPTED_OUT) > 0) | (
        columns["role"] == int(Role.PROFESSIONAL_SELLER)
    )
    is_promising = (columns["sales"] > 0) | (
        (columns["registered_at"] > 0) & (columns["browses"] > 0)
    )
    conditions = [
        is_never,
        is_payer & (cents >= thresholds.tier_s_cents),
        is_payer & (cents >= thresholds.tier_a_cents),
        is_payer & (cents >= thresholds.tier_b_cents),
        is_payer | is_promising,
    ]
    tiers = (ValueTier.X, ValueTier.S, ValueTier.A, ValueTier.B, ValueTier.C)
    return np.select(conditions, [int(tier) for tier in tiers], default=int(ValueTier.D))
