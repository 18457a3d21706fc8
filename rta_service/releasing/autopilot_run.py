"""The autopilot at work: evidence gathered, judged, and acted on by the same rules as people.

It runs in the control process of one host at a time. It moves versions only as an operator may,
on the release that it judged: if anybody moved the release meanwhile, its wish is out of date. With
two-person approval its last step waits for a person.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec

from rta_service.domain.access import Actor, Role
from rta_service.domain.audit import AuditEntry
from rta_service.domain.clock import Clock
from rta_service.domain.command import Command, Pending
from rta_service.domain.errors import InvalidInput, ModelRefused, NotAllowed, RTAError
from rta_service.domain.release import Release
from rta_service.domain.rollout import MILLION, Action, Phase
from rta_service.nearline.autopilot.evidence import Evidence
from rta_service.nearline.autopilot.judge import Judgement, Standing, judge, judge_together
from rta_service.nearline.autopilot.observing import fresh_evidence
from rta_service.nearline.autopilot.policy import Policy
from rta_service.nearline.autopilot.reading import Reading
from rta_service.releasing.shadow_ledger import Observed
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.trials import Trial, trials_of
from rta_service.scoring.manifest import ModelManifest
from rta_service.stores.autopilot_store import AutopilotStore
from rta_service.stores.trial_store import TrialStore

AUTOPILOT: Final = Actor("autopilot", Role.OPERATOR)
PERIOD_S: Final = 30.0


class Switch(msgspec.Struct, frozen=True):
    """Whether it is on, and who wanted that."""

    on: bool
    who: str = ""
    """Empty while nobody switched it and the setting decides."""
    why: str = ""
    at_ms: int = 0


class Look(msgspec.Struct, frozen=True):
    """What it saw and did at one look."""

    at_ms: int
    place: str
    release_id: str
    """The release that was judged."""
    judgement: Judgement
    """Of all models that move together."""
    models: dict[str, Judgement]
    """Of each alone, by `name@version`."""
    done: str
    """What came of it."""


class Status(msgspec.Struct, frozen=True):
    """What there is to know about it."""

    switch: Switch
    last: Look | None
    on_trial: tuple[str, ...] = ()
    """What it judges now if it is on, by `name@version`."""


Kept = TypeVar("Kept", Switch, Look)


class Mover(Protocol):
    """Who moves versions: `Rollouts`."""

    def act(self, command: Command, who: Actor) -> Release | Pending:
        """Do what is wished, or keep it for a second person; raises RTAError."""


class Rules(NamedTuple):
    """By what it is run."""

    place: str
    """Names this host's control process among all."""
    usually_on: bool = False
    """Rules until somebody switches it."""
    policy: Policy = Policy()


class Autopilot:
    """Judges what is on trial and moves it; may block."""

    def __init__(
        self, shelf: Callable[[], Shelf], mover: Mover, clock: Clock, rules: Rules
    ) -> None:
        self._shelf = shelf
        self._mover = mover
        self._clock = clock
        self._rules = rules

    def status(self) -> Status:
        """Say whether it is on, and what it last saw and did on whichever host."""
        store = self._store()
        last = store.last()
        trials = _together(self._shelf().releases.current())
        return Status(
            self._switch(store),
            None if last is None else _read(last, Look),
            tuple(_name(trial) for trial in trials),
        )

    def switch(self, who: Actor, why: str, *, on: bool) -> Switch:
        """Switch it on or off everywhere; raises NotAllowed or InvalidInput."""
        if not who.role.covers(Role.ADMIN):
            raise NotAllowed(
                f"{who.name} has the role {who.role}; this needs the role {Role.ADMIN}"
            )
        if not why.strip():
            raise InvalidInput("say why; it stands in the audit log", "why")
        wanted = Switch(on, who.name, why, self._clock.now_ms())
        what = "on" if on else "off"
        self._shelf().releases.note(
            AuditEntry(wanted.at_ms, who.name, "autopilot", what, why)
        )  # first: a switch without its entry would be worse than an entry without its switch
        self._store().switch(msgspec.json.encode(wanted))
        return wanted

    def look(self) -> Look | None:
        """Judge once and act; None when it is off, runs elsewhere, or nothing is on trial.

        Raises StoreUnavailable when the store fails.
        """
        store = self._store()
        if not self._switch(store).on:
            return None
        fence = store.take_lease(self._rules.place)
        if not fence:
            return None
        shelf = self._shelf()
        release = shelf.releases.current()
        trials = _together(release)
        if release is None or not trials:
            return None
        look = self._judged(shelf, release, trials)
        if not store.keep_last(self._rules.place, fence, msgspec.json.encode(look)):
            return None  # slept through the lease: another place judges now
        done = self._act(release, trials, look)
        look = msgspec.structs.replace(look, done=done)
        store.keep_last(self._rules.place, fence, msgspec.json.encode(look))
        return look

    def give_up(self) -> None:
        """Let another host run it at once, when this one ends."""
        self._store().give_back(self._rules.place)

    def _judged(self, shelf: Shelf, release: Release, trials: list[Trial]) -> Look:
        now_ms = self._clock.now_ms()
        policy = self._rules.policy
        judged = {t: judge_trial(shelf, release, t, policy, now_ms) for t in trials}
        return Look(
            at_ms=now_ms,
            place=self._rules.place,
            release_id=release.release_id,
            judgement=judge_together(list(judged.values())),
            models={_name(trial): one for trial, one in judged.items()},
            done="",
        )

    def _act(self, release: Release, trials: list[Trial], look: Look) -> str:
        command = _command(release, trials, look)
        if command is None:
            return "waits"
        try:
            outcome = self._mover.act(command, AUTOPILOT)
        except RTAError as error:
            return f"could not {command.action.value}: {error}"
        if isinstance(outcome, Pending):
            return f"asked to go live; waits for a second person ({outcome.pending_id})"
        return f"{command.action.value}: release {outcome.release_id} decides"

    def _switch(self, store: AutopilotStore) -> Switch:
        kept = store.switched()
        return Switch(self._rules.usually_on) if kept is None else _read(kept, Switch)

    def _store(self) -> AutopilotStore:
        shelf = self._shelf()
        return AutopilotStore(shelf.client, shelf.namespace)


def judge_trial(
    shelf: Shelf, release: Release, trial: Trial, policy: Policy, now_ms: int
) -> Judgement:
    """Judge one model on trial by all that is known of it; moves nothing."""
    share = release.canary.share_millionths if release.canary else 0
    try:
        live, candidate = _manifests(shelf, trial)
    except ModelRefused as error:
        return Judgement("wait", share, (f"can't be loaded here: {error}",))
    if candidate.kind != "probability":
        words = f"{trial.name} predicts money, which is not judged: move it by hand"
        return Judgement("wait", share, (words,))
    evidence, shadow_since_ms = gather(TrialStore(shelf.client, shelf.namespace), trial)
    standing = Standing(
        phase=trial.phase,
        share_millionths=share,
        since_ms=release.canary.since_ms if release.canary else shadow_since_ms or now_ms,
        claimed_auc=candidate.evaluation.auc,
        live_claimed_auc=live.evaluation.auc,
    )
    return judge(standing, evidence, policy, now_ms)


def gather(store: TrialStore, trial: Trial) -> tuple[Evidence, int]:
    """Put together what is known of a trial: outcomes, and the sampled traffic of every place.

    Also gives when a place first saw it in shadow; 0 when none did.
    """
    live, candidate = trial.live.version, trial.candidate.version
    evidence = fresh_evidence(live, candidate, store.evidence(trial.key))
    since_ms = 0
    for value in store.observed(trial.key).values():
        try:
            seen = msgspec.json.decode(value, type=Observed)
        except msgspec.MsgspecError:
            continue  # of another version of the service; it is only a sample
        evidence = evidence.merge(seen.evidence)
        if seen.phase == Phase.SHADOW:
            since_ms = min(since_ms or seen.since_ms, seen.since_ms)
    return evidence, since_ms


def _together(release: Release | None) -> list[Trial]:
    """Give the models that are judged together: the canary's, or without one the shadows."""
    phase = Phase.CANARY if release is not None and release.canary else Phase.SHADOW
    return [trial for trial in trials_of(release) if trial.phase is phase]


def _name(trial: Trial) -> str:
    return f"{trial.name}@{trial.candidate.version}"


def _manifests(shelf: Shelf, trial: Trial) -> tuple[ModelManifest, ModelManifest]:
    live, candidate = (
        shelf.heads.load(shelf.models_folder, ref).manifest for ref in (trial.live, trial.candidate)
    )
    return live, candidate


def _command(release: Release, trials: list[Trial], look: Look) -> Command | None:
    """Say a judgement as a wish about the release that was judged; None to wait."""
    judgement = look.judgement
    models = tuple((t.name, t.candidate.version) for t in trials)
    why = _why(judgement, look.models)
    if judgement.action == "roll_back":
        action = Action.ROLLBACK if release.canary else Action.STOP
        return Command(action, why=why, release_id=release.release_id)
    if judgement.action == "wait":
        return None
    if judgement.share_millionths >= MILLION:
        return Command(Action.LIVE, models, why=why, release_id=release.release_id)
    share = judgement.share_millionths
    return Command(Action.CANARY, models, share, why, release_id=release.release_id)


def _why(judgement: Judgement, models: Mapping[str, Judgement]) -> str:
    """Write the reasons and every guard's figure, for the audit log."""
    parts = ["; ".join(judgement.reasons)]
    for name, one in models.items():
        figures = [_figure(r) for r in one.readings if r.figure is not None]
        parts += [f"{name}: {', '.join(figures)}"] if figures else []
    return " | ".join(parts)


def _figure(reading: Reading) -> str:
    interval = ""
    if reading.low is not None and reading.high is not None:
        interval = f" ({reading.low:.3g} to {reading.high:.3g})"
    return f"{reading.guard} {reading.figure:.3g}{interval}"


def _read(value: bytes, kind: type[Kept]) -> Kept:
    """Read what was kept; raises InvalidInput for what another version of the service wrote."""
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"not what this version reads: {error}", "autopilot") from error
