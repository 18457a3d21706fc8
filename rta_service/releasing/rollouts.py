"""What may be done with models' versions, by whom, and what became of it."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from rta_service.domain import rollout
from rta_service.domain.access import Actor, Role
from rta_service.domain.audit import AuditEntry
from rta_service.domain.clock import Clock
from rta_service.domain.command import Command, ModelState, Pending
from rta_service.domain.errors import InvalidInput, NotAllowed, OutOfDate
from rta_service.domain.release import SCHEMA, ModelRef, Release
from rta_service.domain.rollout import Action, percent
from rta_service.releasing.activation import Patience, activate, activate_at_once
from rta_service.releasing.comparing import compare_versions
from rta_service.releasing.registry import find_version, manifest_of, pair_of, refs_of, state_of
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.trial_figures import figures_of
from rta_service.releasing.verdicts import read_verdicts
from rta_service.stores.approvals import KEPT_MS, Approvals
from rta_service.stores.model_folder import entries, find_entry, mark_was_live

_AT_ONCE: Final = frozenset({Action.STOP, Action.ROLLBACK, Action.ARCHIVE})
"""They bring nothing that workers do not keep warm, so nobody needs to be waited for."""
_MOVES_MODELS: Final = frozenset({Action.SHADOW, Action.CANARY, Action.LIVE, Action.ARCHIVE})
_FROM_CANARY: Final = frozenset({Action.CANARY, Action.LIVE})
"""Actions that without models mean those of the running canary."""


class Rollouts:
    """What commands, the control port and the autopilot may do with models' versions."""

    def __init__(
        self,
        shelf: Callable[[], Shelf],
        clock: Clock,
        *,
        two_person: bool = False,
        patience: Patience | None = None,
    ) -> None:
        self._shelf = shelf
        self._clock = clock
        self._two_person = two_person
        self._patience = patience

    def current(self) -> Release | None:
        """Give the release that the pointer names."""
        return self._shelf().releases.current()

    def models(self) -> list[ModelState]:
        """List every registered version, by name, the newest first."""
        shelf = self._shelf()
        release = shelf.releases.current()
        states = [state_of(shelf.models_folder, e, release) for e in entries(shelf.models_folder)]
        return sorted(states, key=lambda s: (s.name, -s.uploaded_at_ms, s.version))

    def show(self, name: str, version: str = "") -> dict[str, Any]:
        """Show a version's state, its trial, manifest and verdicts; raises UnknownName."""
        shelf = self._shelf()
        folder, release = shelf.models_folder, shelf.releases.current()
        entry = find_version(folder, name, version)
        manifest = manifest_of(folder, entry)
        verdicts = read_verdicts(folder, name, entry.ref.version)
        return {
            "state": msgspec.to_builtins(state_of(folder, entry, release)),
            "trial": figures_of(shelf, release, entry.ref, self._clock.now_ms()),
            "manifest": msgspec.to_builtins(manifest),
            "verdicts": [verdict.to_json() for verdict in verdicts],
        }

    def diff(self, name: str, *given: str) -> dict[str, Any]:
        """Compare two versions of a model; the live one, and the candidate, where none is given.

        Raises UnknownName, or InvalidInput where there is nothing to compare.
        """
        shelf = self._shelf()
        pair = pair_of(shelf.models_folder, shelf.releases.current(), name, given)
        return compare_versions(shelf.models_folder, *pair)

    def act(self, command: Command, who: Actor) -> Release | Pending:
        """Do what is wished, or keep it for a second person.

        Raises NotAllowed, UnknownName, OutOfDate or InvalidInput when it may not or can't be done;
        what decides then goes on.
        """
        _check_role(command, who)
        shelf = self._shelf()
        current = _decided_on(shelf, command.release_id)
        command = _resolved(shelf, command, current)
        draft = self._draft(shelf, command, current)
        if self._two_person and command.action is Action.LIVE:
            return self._ask(shelf, command, who)
        return self._move(shelf, draft, command, self._entry(draft, command, who.name))

    def approve(self, pending_id: str, who: Actor, decided_on: str = "") -> Release:
        """Do what somebody else wished; raises UnknownName, NotAllowed or OutOfDate."""
        shelf = self._shelf()
        waiting = Approvals(shelf.client, shelf.namespace)
        wish = waiting.get(pending_id)
        _check_role(msgspec.structs.replace(wish.command, skip=False), who)
        if wish.asked_by == who.name:
            raise NotAllowed(f"{who.name} asked for it; a second person must approve")
        if decided_on and decided_on != wish.command.release_id:
            raise OutOfDate(f"was asked on {wish.command.release_id}, not {decided_on}", pending_id)
        current = _decided_on(shelf, wish.command.release_id)
        draft = self._draft(shelf, wish.command, current)
        entry = self._entry(draft, wish.command, wish.asked_by, f"; approved by {who.name}")
        release = self._move(shelf, draft, wish.command, entry)
        waiting.drop(pending_id)
        return release

    def withdraw(self, pending_id: str, who: Actor) -> Pending:
        """Let go of a wish that waits; raises UnknownName."""
        if not who.role.covers(Role.OPERATOR):
            raise NotAllowed(f"{who.name} has the role {who.role}; this needs the role operator")
        shelf = self._shelf()
        waiting = Approvals(shelf.client, shelf.namespace)
        wish = waiting.get(pending_id)
        waiting.drop(pending_id)
        what = f"{describe(wish.command)}; asked by {wish.asked_by}"
        shelf.releases.note(AuditEntry(self._clock.now_ms(), who.name, "withdraw", what))
        return wish

    def pending(self) -> list[Pending]:
        """Give what waits for a second person, the oldest first.

        A wish on a release that no longer decides can't be approved any more and is left out.
        """
        shelf = self._shelf()
        current = shelf.releases.current()
        decides = current.release_id if current else ""
        waiting = Approvals(shelf.client, shelf.namespace).all()
        return [wish for wish in waiting if wish.command.release_id == decides]

    def log(self, count: int) -> list[AuditEntry]:
        """Give the newest entries of the audit log, the newest first."""
        return self._shelf().releases.audit(count)

    def _draft(self, shelf: Shelf, command: Command, current: Release) -> Release:
        """Make the release that a wish comes to; raises InvalidInput for a step that can't be."""
        now_ms = self._clock.now_ms()
        refs = refs_of(shelf.models_folder, command.models)
        step = _step(current, command, refs, now_ms)
        return msgspec.structs.replace(
            step,
            release_id="",
            previous_id=current.release_id,
            created_at_ms=now_ms,
            note=describe(command) + _effect(current, step),
            schema=SCHEMA,
        )

    def _ask(self, shelf: Shelf, command: Command, who: Actor) -> Pending:
        now_ms = self._clock.now_ms()
        asked = msgspec.json.encode([command.action, command.models, command.release_id])
        name = sha256(asked).hexdigest()[:12]
        wish = Pending(name, command, who.name, now_ms, now_ms + KEPT_MS)
        kept = Approvals(shelf.client, shelf.namespace).put(wish)
        if kept == wish:
            shelf.releases.note(AuditEntry(now_ms, who.name, "ask", describe(command), command.why))
        return kept

    def _entry(self, draft: Release, command: Command, who: str, approved: str = "") -> AuditEntry:
        what = draft.note + approved
        return AuditEntry(self._clock.now_ms(), who, command.action.value, what, command.why)

    def _move(self, shelf: Shelf, draft: Release, command: Command, entry: AuditEntry) -> Release:
        """Let a draft decide; which versions were ever live is noted before and after."""
        before = shelf.releases.current()
        self._mark(shelf, before.models if before else ())
        if command.action in _AT_ONCE:
            release = activate_at_once(shelf, draft, entry)
        else:
            release = activate(shelf, draft, entry, self._patience)
        self._mark(shelf, release.models)
        return release

    def _mark(self, shelf: Shelf, refs: Sequence[ModelRef]) -> None:
        folder = shelf.models_folder
        found = {ref: find_entry(folder, ref.name, ref.version) for ref in refs}
        new = [ref for ref, entry in found.items() if entry is not None and not entry.was_live_ms]
        if new:
            mark_was_live(folder, new, self._clock.now_ms())


def describe(command: Command) -> str:
    """Say a wish in a few words, for notes and the audit log."""
    words = [command.action.value, *(f"{name}@{version}" for name, version in command.models)]
    if command.action is Action.CANARY:
        words.append(f"for {percent(command.share_millionths)} of people")
    if command.skip:
        words.append("without a canary")
    return " ".join(words)


def _effect(current: Release, step: Release) -> str:
    """Say which live versions a step replaces, and which canary it ends."""
    before = {ref.name: ref.version for ref in current.models}
    words = [
        f"{ref.name} {before[ref.name]} -> {ref.version}"
        for ref in step.models
        if before.get(ref.name, ref.version) != ref.version
    ]
    if current.canary is not None and step.canary is None:
        ended = [ref for ref in current.canary.models if ref not in step.models]
        words += [f"canary {ref.name} {ref.version} ends" for ref in ended]
    return f" ({', '.join(words)})" if words else ""


def _check_role(command: Command, who: Actor) -> None:
    needed = Role.ADMIN if command.skip else Role.OPERATOR
    if not who.role.covers(needed):
        raise NotAllowed(f"{who.name} has the role {who.role}; this needs the role {needed}")


def _decided_on(shelf: Shelf, release_id: str) -> Release:
    """Give the current release; raises OutOfDate unless it is the one that was decided on."""
    current = shelf.releases.current()
    if current is None:
        raise InvalidInput(
            "no release decides yet; make a first one (rta profiles publish, rta models publish, "
            "rta strategies publish)",
            "rollout",
        )
    if release_id and current.release_id != release_id:
        raise OutOfDate(
            f"was decided on {release_id}, but {current.release_id} decides now; look again",
            "rollout",
        )
    return current


def _resolved(shelf: Shelf, command: Command, current: Release) -> Command:
    """Name every version and the release; raises InvalidInput for what does not belong together."""
    action, models = command.action, command.models
    if models and action not in _MOVES_MODELS:
        raise InvalidInput(f"{action} takes no models; it is about all that run", "models")
    if command.share_millionths and action is not Action.CANARY:
        raise InvalidInput(f"only a canary has a share, not {action}", "share")
    if command.skip and action is not Action.LIVE:
        raise InvalidInput(f"only going live can skip the canary, not {action}", "skip")
    if not models and action in _FROM_CANARY:
        running = current.canary.models if current.canary else ()
        if not running:
            raise InvalidInput("no canary is running: name the models", "models")
        models = tuple((ref.name, ref.version) for ref in running)
    found = refs_of(shelf.models_folder, models)
    return msgspec.structs.replace(
        command,
        models=tuple((ref.name, ref.version) for ref in found),
        release_id=current.release_id,
    )


def _step(current: Release, command: Command, refs: tuple[ModelRef, ...], now_ms: int) -> Release:
    steps: dict[Action, Callable[[], Release]] = {
        Action.SHADOW: lambda: rollout.to_shadow(current, refs),
        Action.CANARY: lambda: rollout.to_canary(current, refs, command.share_millionths, now_ms),
        Action.LIVE: lambda: rollout.to_live(current, refs, skip=command.skip),
        Action.STOP: lambda: rollout.stop(current),
        Action.ROLLBACK: lambda: rollout.roll_back(current),
        Action.ARCHIVE: lambda: rollout.to_archive(current, refs),
    }
    return steps[command.action]()
