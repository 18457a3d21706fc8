"""The models of one release, and which of them answers which question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

from rta_service.domain.errors import ModelRefused
from rta_service.domain.funnel import DEFAULT_FUNNEL, REGISTER, TRADE
from rta_service.domain.release import ModelRef
from rta_service.domain.strategy import Goal, OptimisedEvent
from rta_service.scoring.canonical_text import canonical_text
from rta_service.scoring.forest import read_forest
from rta_service.scoring.head import Head
from rta_service.scoring.manifest import ModelManifest
from rta_service.scoring.model_file import object_path, read_model

TRADE_GIVEN_REGISTER: Final = "trade_given_register"

_KNOWN: Final = {spec.name: spec for spec in DEFAULT_FUNNEL}


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
        name = self._head_of(goal, event)
        if goal is Goal.TRADE and event is OptimisedEvent.REGISTER:
            return self._trade_given_register(name)
        return ValueRule("head", name) if name else MISSING

    def _head_of(self, goal: Goal, event: OptimisedEvent) -> str:
        """Find the head that predicts a goal given an event, whatever its name."""
        for name, head in self.heads.items():
            seen = head.manifest
            if seen.kind == "probability" and (seen.goal.value, seen.given.value) == (
                goal.value,
                event.value,
            ):
                return name
        return ""

    def _trade_given_register(self, name: str) -> ValueRule:
        has_ratio = TRADE in self.heads and REGISTER in self.heads
        if name and (self.heads[name].manifest.prefer == "head" or not has_ratio):
            return ValueRule("head", name)
        return ValueRule("ratio", TRADE, REGISTER) if has_ratio else MISSING


class HeadSource(Protocol):
    """Where heads come from when not from the disk: a `HeadCache`."""

    def load(self, folder: Path, ref: ModelRef) -> Head:
        """Give the head of a model; raises ModelRefused naming file and reason."""


def load_model_set(
    folder: Path, refs: Sequence[ModelRef], cache: HeadSource | None = None
) -> ModelSet:
    """Load the models of a release from the folder's objects, or take them from the cache.

    Raises ModelRefused naming file and reason.
    """
    load = load_head if cache is None else cache.load
    heads: dict[str, Head] = {}
    for ref in refs:
        if ref.name in heads:
            raise ModelRefused(f"{folder}: a release names the model {ref.name!r} twice")
        heads[ref.name] = load(folder, ref)
    return ModelSet(heads)


def load_head(folder: Path, ref: ModelRef) -> Head:
    """Load one model: map its arrays, and let LightGBM read the text that we write from them.

    No byte of an upload reaches LightGBM. Raises ModelRefused naming model, file and reason.
    """
    path = object_path(folder, ref.sha256)
    try:
        manifest, flat = read_model(path, ref.sha256)
        check_ref(manifest, ref)
        forest = read_forest(canonical_text(flat))
    except ModelRefused as error:
        raise ModelRefused(f"{ref.name} {ref.version}: {error}") from error
    except ValueError as error:
        said = " ".join(str(error).split())
        raise ModelRefused(f"{ref.name} {ref.version}: {path}: can't be scored ({said})") from error
    return Head(manifest, forest, flat)


def check_ref(manifest: ModelManifest, ref: ModelRef) -> None:
    """Raise ModelRefused unless the manifest is of this model and answers its name's question."""
    if (manifest.name, manifest.version) != (ref.name, ref.version):
        raise ModelRefused(
            f"{ref.sha256} is {manifest.name} {manifest.version}, "
            f"the release names it {ref.name} {ref.version}"
        )
    known = _KNOWN.get(manifest.name)
    asked = (manifest.goal, manifest.given, manifest.kind)
    if known is not None and asked != (known.goal, known.given, known.kind):
        raise ModelRefused(
            f"{manifest.name!r} must predict {known.goal} given {known.given} as a {known.kind}, "
            f"not {manifest.goal} given {manifest.given} as a {manifest.kind}"
        )
