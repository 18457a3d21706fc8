"""What the people of a batch will do: one call per model for the rows still alive."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.strategy import Goal, OptimisedEvent
from rta_service.features import Rows, matrix
from rta_service.record import RECORD_DTYPE


class Head(Protocol):
    """One calibrated model."""

    def probabilities(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give P in [0, 1] for each row of features.matrix."""


class ValueRule(Protocol):
    """How E[goal value | optimised event] is had from the heads."""

    @property
    def kind(self) -> str:
        """One of one, head, ratio, missing."""

    @property
    def numerator(self) -> str:
        """The head whose probability it is."""

    @property
    def denominator(self) -> str:
        """For a ratio, the head to divide by."""


class Models(Protocol):
    """The models of one release."""

    @property
    def heads(self) -> Mapping[str, Head]:
        """Heads by name; `register` and `trade`, given a click, are always there."""

    def value_rule(self, goal: Goal, event: OptimisedEvent) -> ValueRule:
        """Tell how a goal's value given an event is computed."""


class Candidate(NamedTuple):
    """One row to score: record bytes and the request's lasting context as model codes."""

    record: bytes
    platform: int
    os: int
    placement: int


Scores = Mapping[str, float]
"""Head name to probability, of one candidate."""


def rows_of(candidates: Sequence[Candidate], now_s: int) -> Rows:
    """Lay candidates out as the rows that features are computed from."""
    records = np.frombuffer(b"".join([c.record for c in candidates]), dtype=RECORD_DTYPE)
    context = np.array([c[1:] for c in candidates], dtype=np.int64)
    now = np.full(len(candidates), now_s, dtype=np.int64)
    return Rows(records, now, context[:, 0], context[:, 1], context[:, 2])


def score(
    models: Models, heads: Sequence[str], candidates: Sequence[Candidate], now_s: int
) -> list[Scores]:
    """Score all candidates with the heads asked for, one call per head."""
    if not candidates:
        return []
    inputs = matrix(rows_of(candidates, now_s))
    columns = [models.heads[name].probabilities(inputs).tolist() for name in heads]
    return [dict(zip(heads, row, strict=True)) for row in zip(*columns, strict=True)]
