"""How a model's version moves towards all traffic and back: pure steps from release to release.

    staged -> shadow -> canary (any share) -> live -> previous -> archived

The release says who is in shadow, canary, live and previous. A version that is known and in none of
these is staged, or archived once it has been live. Every step makes a draft of the next release;
publishing it is somebody else's work, and of two writers one is told.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import Canary, ModelRef, Release

MILLION: Final = 1_000_000
"""Shares are given in steps of one in a million people."""


def percent(share_millionths: int) -> str:
    """Write a share of people for people: 0.1 %, 99.9999 %."""
    return f"{share_millionths / 10_000:g} %"


class Phase(StrEnum):
    """Where a model's version stands."""

    STAGED = "staged"
    SHADOW = "shadow"
    CANARY = "canary"
    LIVE = "live"
    PREVIOUS = "previous"
    ARCHIVED = "archived"


class Action(StrEnum):
    """What can be done with versions."""

    SHADOW = "shadow"
    CANARY = "canary"
    LIVE = "live"
    STOP = "stop"
    ROLLBACK = "rollback"
    ARCHIVE = "archive"


def phase_of(release: Release | None, ref: ModelRef, *, was_live: bool) -> Phase:
    """Say where a version stands in a release."""
    if release is not None:
        canary = release.canary.models if release.canary else ()
        groups = (
            (Phase.LIVE, release.models),
            (Phase.CANARY, canary),
            (Phase.SHADOW, release.shadow),
            (Phase.PREVIOUS, release.previous),
        )
        for phase, refs in groups:
            if ref in refs:
                return phase
    return Phase.ARCHIVED if was_live else Phase.STAGED


def to_shadow(release: Release, refs: Sequence[ModelRef]) -> Release:
    """Let versions score a sample of the traffic; raises InvalidInput if one decides already."""
    _check_one_each(refs)
    for ref in refs:
        if ref in release.models or (release.canary and ref in release.canary.models):
            raise InvalidInput("decides already; it has no need of a shadow", _named(ref))
    return msgspec.structs.replace(release, shadow=_laid_over(release.shadow, refs))


def to_canary(
    release: Release, refs: Sequence[ModelRef], share_millionths: int, now_ms: int
) -> Release:
    """Let versions decide for a share of people; they must be in shadow, or be the canary.

    Raises InvalidInput for another share than 1 to 999,999 millionths, for a model that is not
    live under that name, or while another canary runs.
    """
    _check_one_each(refs)
    if not 0 < share_millionths < MILLION:
        raise InvalidInput("lies outside 0.000001 to 0.999999; for all people go live", "share")
    running = release.canary
    if running is not None and set(running.models) != set(refs):
        names = ", ".join(_named(ref) for ref in running.models)
        raise InvalidInput(f"a canary is running ({names}): stop it or let it go live first")
    live = {ref.name for ref in release.models}
    for ref in refs:
        if running is None and ref not in release.shadow:
            raise InvalidInput("must be in shadow before it may decide for anybody", _named(ref))
        if ref.name not in live:
            raise InvalidInput(
                "has no live version to be compared with: let it go live", _named(ref)
            )
    means = running.mean_values if running else {}
    canary = Canary(tuple(refs), share_millionths, now_ms, means)
    return msgspec.structs.replace(release, canary=canary, shadow=_without(release.shadow, refs))


def to_live(release: Release, refs: Sequence[ModelRef], *, skip: bool = False) -> Release:
    """Let versions decide for all; they must be the canary, unless `skip` says to jump.

    What they replace becomes `previous`.
    """
    _check_one_each(refs)
    running = release.canary.models if release.canary else ()
    if not skip and set(running) != set(refs):
        names = ", ".join(_named(ref) for ref in refs)
        raise InvalidInput(f"only a whole canary can go live; run one first: {names}")
    chosen = {ref.name: ref for ref in refs}
    replaced = [ref for ref in release.models if chosen.get(ref.name, ref) != ref]
    ends = set(running) & set(refs)
    previous = _laid_over(_without(release.previous, refs), replaced)
    return msgspec.structs.replace(
        release,
        models=_laid_over(release.models, refs),
        previous=previous,
        rolled_back=_among(previous, release.rolled_back),
        shadow=_without(release.shadow, refs),
        canary=None if ends else release.canary,
    )


def stop(release: Release) -> Release:
    """End the canary, or where there is none the shadows; the live models go on."""
    if release.canary is not None:
        return msgspec.structs.replace(release, canary=None)
    if release.shadow:
        return msgspec.structs.replace(release, shadow=())
    raise InvalidInput("neither a canary nor a shadow is running", "stop")


def roll_back(release: Release) -> Release:
    """End a running canary; without one, let the previous versions decide again.

    What was itself rolled back is left alone: doing it twice is no way to a bad model. Raises
    InvalidInput when there is nothing (else) to go back to.
    """
    if release.canary is not None:
        return msgspec.structs.replace(release, canary=None)
    if not release.previous:
        raise InvalidInput("no live model has a previous version to go back to", "rollback")
    chosen = _without(release.previous, release.rolled_back)
    if not chosen:
        names = ", ".join(_named(ref) for ref in release.previous)
        words = " ".join(f"{ref.name}@{ref.version}" for ref in release.previous)
        raise InvalidInput(
            f"the previous version was itself rolled back ({names}); to let it decide again on "
            f"purpose: rta models live {words} --skip (over HTTP: action live with skip)",
            "rollback",
        )
    back = to_live(release, chosen, skip=True)
    taken_back = (*back.rolled_back, *_without(release.models, back.models))
    return msgspec.structs.replace(back, rolled_back=_among(back.previous, taken_back))


def canary_arm(release: Release) -> Release | None:
    """Give the release as the canary's people see it: its models laid over the live ones."""
    canary = release.canary
    if canary is None:
        return None
    return msgspec.structs.replace(
        release,
        models=_laid_over(release.models, canary.models),
        mean_values=canary.mean_values,
        canary=None,
    )


def exchange(release: Release, refs: Sequence[ModelRef]) -> Release:
    """Let exactly these versions be live, whatever was; what they replace becomes `previous`.

    A canary ends that is among them, or that no longer has a live model to be compared with.
    """
    _check_one_each(refs)
    names = {ref.name for ref in refs}
    running = release.canary
    if running is not None:
        lost = {ref.name for ref in running.models} - names
        running = None if lost or set(running.models) & set(refs) else running
    replaced = [ref for ref in release.models if ref not in refs]
    previous = _laid_over(_without(release.previous, refs), replaced)
    return msgspec.structs.replace(
        release,
        models=_laid_over((), refs),
        previous=previous,
        rolled_back=_among(previous, release.rolled_back),
        shadow=_without(release.shadow, refs),
        canary=running,
    )


def return_to(current: Release, before: Release) -> Release:
    """Give an earlier release's content to decide again; what it replaces becomes `previous`.

    A canary of then runs again only if its models are the canary now: one that ended has its
    reasons. Shadows stay as they are now. What is replaced counts as rolled back, unless it was
    already then what one could go back to.
    """
    then = set(before.canary.models) if before.canary else set()
    now = set(current.canary.models) if current.canary else set()
    replaced = [ref for ref in current.models if ref not in before.models]
    deciding = {*before.models, *(then if then == now else ())}
    previous = _laid_over(_without(before.previous, before.models), replaced)
    taken_back = (*before.rolled_back, *_without(replaced, before.previous))
    return msgspec.structs.replace(
        before,
        canary=before.canary if then == now else None,
        shadow=_without(current.shadow, deciding),
        previous=previous,
        rolled_back=_among(previous, taken_back),
    )


def to_archive(release: Release, refs: Sequence[ModelRef]) -> Release:
    """Let go of previous versions, so that no worker keeps them warm."""
    for ref in refs:
        if ref not in release.previous:
            raise InvalidInput("is not a previous version; only those are archived", _named(ref))
    previous = _without(release.previous, refs)
    return msgspec.structs.replace(
        release, previous=previous, rolled_back=_among(previous, release.rolled_back)
    )


def all_refs(release: Release) -> tuple[ModelRef, ...]:
    """Give every version a release names, each once; live ones first."""
    canary = release.canary.models if release.canary else ()
    return tuple(dict.fromkeys((*release.models, *canary, *release.shadow, *release.previous)))


def _laid_over(base: Iterable[ModelRef], new: Iterable[ModelRef]) -> tuple[ModelRef, ...]:
    """Replace versions by name and add names that were not there, in the order of names."""
    merged = {ref.name: ref for ref in (*base, *new)}
    return tuple(merged[name] for name in sorted(merged))


def _without(base: Iterable[ModelRef], gone: Iterable[ModelRef]) -> tuple[ModelRef, ...]:
    leaving = set(gone)
    return tuple(ref for ref in base if ref not in leaving)


def _among(base: Iterable[ModelRef], some: Iterable[ModelRef]) -> tuple[ModelRef, ...]:
    kept = set(some)
    return tuple(ref for ref in base if ref in kept)


def _check_one_each(refs: Sequence[ModelRef]) -> None:
    names = [ref.name for ref in refs]
    if not names or len(set(names)) < len(names):
        raise InvalidInput(f"name one version each of one or more models, not {names}", "models")


def _named(ref: ModelRef) -> str:
    return f"model {ref.name} {ref.version}"
