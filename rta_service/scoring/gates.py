"""Named gates: what a model must show before it may be staged, with every figure kept."""

from typing import Literal

import msgspec

Outcome = Literal["passed", "failed", "skipped", "not_reached"]
"""skipped: there was nothing to judge by (the note says what). not_reached: an earlier one failed."""


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named check and what it found."""

    name: str
    outcome: Outcome
    figure: float | None = None
    limit: str = ""
    """In words: ">= 0.55", "0.9 to 1.1"."""
    note: str = ""

    @property
    def passed(self) -> bool:
        """Say whether the model was judged and found good."""
        return self.outcome == "passed"
