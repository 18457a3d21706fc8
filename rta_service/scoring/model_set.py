"""The models of one release, and which of them answers which question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from rta_service.domain.errors import ModelRefused
from rta_service.domain.release import ModelRef
from rta_service.domain.strategy import Goal, OptimisedEvent
from rta_service.scoring.forest import read_forest
from rta_service.scoring.head import Head
from rta_service.scoring.manifest import MODEL, model_path, read_verified

REGISTER: Final = "register"
TRADE: Final = "trade"
REGISTER_GIVEN_ACTIVATE: Final = "register_given_activate"
TRADE_GIVEN_ACTIVATE: Final = "trade_given_activate"
TRADE_GIVEN_REGISTER: Final = "trade_given_register"

HEADS: Final = {
    REGISTER: (Goal.REGISTER, OptimisedEvent.CLICK),
    TRADE: (Goal.TRADE, OptimisedEvent.CLICK),
    REGISTER_GIVEN_ACTIVATE: (Goal.REGISTER, OptimisedEvent.ACTIVATE),
    TRADE_GIVEN_ACTIVATE: (Goal.TRADE, OptimisedEvent.ACTIVATE),
    TRADE_GIVEN_REGISTER: (Goal.TRADE, OptimisedEvent.REGISTER),
}
"""Every head that can exist: what it predicts, given what. The first two must exist to train."""


class ValueRule(msgspec.Struct, frozen=True, gc=False):
    """How E[goal value | optimised event] follows from the heads.

    one: it is 1, the goal is the event itself. head: the numerator's probability. ratio:
    numerator over denominator, at most 1. missing: no head of the release can say.
    """

    kind: Literal["one", "head", "ratio", "missing"]
    numerator: str = ""
    denominator: str = ""


ONE: Final = ValueRule("one")
MISSING: Final = ValueRule("missing")


@dataclass(frozen=True, slots=True)
class ModelSet:
    """The heads of one release by name."""

    heads: Mapping[str, Head]

    def value_rule(self, goal: Goal, event: OptimisedEvent) -> ValueRule:
        """Say how to value a person for a goal once the platform's optimised event happened."""
        if goal == event.value:
            return ONE
        if goal is Goal.TRADE and event is OptimisedEvent.REGISTER:
            return self._trade_given_register()
        name = next(name for name, asked in HEADS.items() if asked == (goal, event))
        return ValueRule("head", name) if name in self.heads else MISSING

    def _trade_given_register(self) -> ValueRule:
        head = self.heads.get(TRADE_GIVEN_REGISTER)
        has_ratio = TRADE in self.heads and REGISTER in self.heads
        if head is not None and (head.manifest.prefer == "head" or not has_ratio):
            return ValueRule("head", TRADE_GIVEN_REGISTER)
        return ValueRule("ratio", TRADE, REGISTER) if has_ratio else MISSING


def load_model_set(folder: Path, refs: Sequence[ModelRef]) -> ModelSet:
    """Load the models of a release from <folder>/<name>/<version>.

    Text that does not hash to what the release names never reaches LightGBM. Raises ModelRefused
    naming file and reason.
    """
    heads: dict[str, Head] = {}
    for ref in refs:
        if ref.name in heads:
            raise ModelRefused(f"{folder}: a release names the model {ref.name!r} twice")
        heads[ref.name] = load_head(folder, ref)
    return ModelSet(heads)


def load_head(folder: Path, ref: ModelRef) -> Head:
    """Load one model; raises ModelRefused naming file and reason."""
    manifest, text = read_verified(folder, ref)
    place = model_path(folder, ref) / MODEL
    if HEADS.get(manifest.name) != (manifest.goal, manifest.given):
        raise ModelRefused(
            f"{place.parent}: {manifest.name!r} is no head for {manifest.goal} given"
            f" {manifest.given}; heads are {', '.join(HEADS)}"
        )
    try:
        forest = read_forest(text.decode())
    except ValueError as error:
        said = " ".join(str(error).split())
        raise ModelRefused(f"{place}: LightGBM can't read it ({said})") from error
    if forest.feature_names != manifest.feature_names:
        raise ModelRefused(f"{place}: its feature_names are not those of its manifest")
    return Head(manifest, forest)
