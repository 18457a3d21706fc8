"""Reads LightGBM's text form of a forest without trusting it: every rule it breaks is named.

No C++ parser is involved. What comes back holds only arrays that were checked.
"""

from dataclasses import dataclass

from rta_service.domain.errors import Fault, ModelUnsound
from rta_service.scoring.flat_forest import FlatForest


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a sound model may be; far above what is useful, far below what hurts."""

    max_bytes: int = 64_000_000
    max_trees: int = 5_000
    max_leaves: int = 4_096
    """Of one tree."""
    max_nodes: int = 2_000_000
    """Inner nodes of all trees."""
    max_features: int = 1_024
    max_category: int = 65_535
    max_cat_words: int = 4_000_000
    """Of all trees."""
    max_raw: float = 1_000.0
    """Bound of the raw sum's size: what the largest leaf of every tree adds up to."""
    max_faults: int = 50


def parse_forest(data: bytes, place: str, limits: Limits = Limits()) -> FlatForest:  # noqa: B008 - frozen
    """Read a model's text into flat arrays; raises ModelUnsound naming up to 50 faults."""
    if len(data) > limits.max_bytes:
        fault = Fault(0, -1, "file", f"{len(data)} bytes, the limit is {limits.max_bytes}")
        raise ModelUnsound(place, (fault,))
    raise NotImplementedError
