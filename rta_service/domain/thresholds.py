"""The data-driven cuts that make stages, segments and tiers; they travel with their snapshot."""

import msgspec

DAY_S = 86_400
"""Seconds in a day."""


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cuts found by the 80/20 rule; integer seconds, counts and cents, so that engines agree."""

    silent_s: int
    """80 % of payments that are followed by a launch are followed within this."""
    churned_s: int
    """80 % of the gaps between consecutive launches are at most this."""
    recency_s: int
    """A payer is recent when the last payment is at most this old (0.8 quantile)."""
    frequency: int
    """A payer is frequent from this many orders (0.8 quantile)."""
    monetary_cents: int
    """A payer is big from this much net money (0.8 quantile)."""
    tier_s_cents: int
    """Tier S begins here: 0.95 quantile of payers' net money."""
    tier_a_cents: int
    """Tier A begins here: 0.8 quantile of payers' net money."""
    tier_b_cents: int
    """Tier B begins here: median of payers' net money."""

    def as_days(self) -> dict[str, float]:
        """Give the five published cuts in days and currency units."""
        return {
            "silent_days": self.silent_s / DAY_S,
            "churned_days": self.churned_s / DAY_S,
            "recency_days": self.recency_s / DAY_S,
            "frequency": self.frequency,
            "monetary": self.monetary_cents / 100,
        }
