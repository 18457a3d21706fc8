"""The composition of what takes events in and of what is done with them; `wiring` beside it."""

import asyncio
import functools
import logging
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from rta_service.config import Settings
from rta_service.domain.clock import Clock, SystemClock
from rta_service.domain.errors import DegradedError, StartupError, StoreUnavailable
from rta_service.domain.sealing import Sealer
from rta_service.domain.tag import strategy_mark
from rta_service.feedback.archive import ARCHIVE_RULES, EventArchive
from rta_service.feedback.attributing import Attributing
from rta_service.feedback.consuming import Group, GroupRules, Progress, Source
from rta_service.feedback.control_run import run_control, run_publisher
from rta_service.feedback.control_terms import terms_of
from rta_service.feedback.controlling import Controller, Place
from rta_service.feedback.feed_publishing import FeedPublisher
from rta_service.feedback.fresh import FreshRecords
from rta_service.feedback.intake import Intake
from rta_service.feedback.tenure import WORK, consume
from rta_service.feedback.watching import Watch
from rta_service.nearline.attribution.facts import FactReader, marked
from rta_service.nearline.attribution.goals import AttributionRules
from rta_service.nearline.control.feeding import Terms
from rta_service.nearline.reading import DAY_MS, ReadingRules
from rta_service.nearline.tracking import LinkKeys, Links
from rta_service.platforms.registry import load_tables
from rta_service.releasing.shelf import Shelf, strategies_of
from rta_service.stores.control_feed import ControlFeed
from rta_service.stores.control_store import ControlStore
from rta_service.stores.delta_store import DeltaStore
from rta_service.stores.durability import MakeDurable, make_durable_by, parse_durability
from rta_service.stores.embedded import is_embedded
from rta_service.stores.event_log import EventLog, LogRules
from rta_service.stores.keys import event_name
from rta_service.stores.lease import Lease
from rta_service.stores.ledger import Ledger
from rta_service.stores.poison import PoisonStore
from rta_service.stores.redis import AsyncClient, admin_client, close, watch_client
from rta_service.stores.token_file import TokenFile
from rta_service.telemetry import Telemetry
from rta_service.web.ingest_app import GroupHealth, ingest_app
from rta_service.wiring import (
    earlier_event_keys,
    key_ring,
    open_shelf,
    say,
    secret,
    shelf,
    tag_reader,
)

GROUPS: Final = ("fresh", "archive", "attribution")
"""What is done with every event; the log keeps each until all of them have done it."""

_STORE_TIMEOUT_S: Final = 5.0
"""Beyond the 3 s that a server may take to make something durable."""
_CONNECTIONS: Final = 14
"""Three groups that wait for events and acknowledge, two writers, the lease, the watch, the feed."""
_NAMES_S: Final = 1.0
_LEAVES_STORE: Final = GroupRules(leaves_store=True)
"""For the ledger: what it holds, the store must not forget."""


def sealer(settings: Settings) -> Sealer:
    """Give what hides whom events are about; each thread needs its own.

    Raises InvalidInput for a file of earlier keys that can't be read.
    """
    return Sealer(secret(settings, "event_key"), earlier_event_keys(settings))


def links(settings: Settings) -> Links:
    """Give what makes and reads tracking links; raises InvalidInput for a bad file of keys."""
    secrets = [secret(settings, "event_key"), *earlier_event_keys(settings)]
    return Links(LinkKeys(secrets), load_tables(), tag_reader(settings))


def ledger_path(settings: Settings) -> Path:
    """Say where attribution keeps what it knows."""
    return settings.data_dir / "ledger.sqlite"


class LazyDurable:
    """Finds out, when first needed, how the store makes writes durable: it may be away before."""

    def __init__(self, find: Callable[[], Awaitable[MakeDurable]]) -> None:
        self._find = find
        self._found: MakeDurable | None = None
        self._finding = asyncio.Lock()

    async def __call__(self) -> None:
        """Return once all that was written is kept; raises StoreUnavailable or StartupError."""
        async with self._finding:
            found = self._found or await self._find()
            self._found = found
        await found()


def event_log(settings: Settings, url: str, client: AsyncClient) -> EventLog:
    """Give the log of what happened."""
    find = functools.partial(
        make_durable_by,
        client,
        event_name(settings.namespace, "touch"),
        parse_durability(settings.durability),
        settings.data_dir if is_embedded(url, settings.data_dir) else None,
    )
    rules = LogRules(_max_age_ms(settings), settings.event_log_length)
    return EventLog(client, settings.namespace, LazyDurable(find), rules)


def _max_age_ms(settings: Settings) -> int:
    return round(settings.event_max_age_days * DAY_MS)


@dataclass(frozen=True, slots=True)
class Events:
    """What a command needs to look at what came back."""

    log: EventLog
    poison: PoisonStore
    sealer: Sealer


@asynccontextmanager
async def open_events(settings: Settings, url: str) -> AsyncIterator[Events]:
    """Open the log for a command."""
    client = watch_client(url, _STORE_TIMEOUT_S)
    try:
        yield Events(
            event_log(settings, url, client),
            PoisonStore(client, settings.namespace),
            sealer(settings),
        )
    finally:
        await close(client)


def check_durability(settings: Settings, url: str) -> None:
    """Raise StartupError where the store can't keep what is to be promised; not where it is away."""

    async def check() -> None:
        client = watch_client(url, _STORE_TIMEOUT_S)
        try:
            await event_log(settings, url, client).settle()
        except StoreUnavailable:
            return  # asked again with the first events
        finally:
            await close(client)

    asyncio.run(check())


def known_strategies(settings: Settings) -> set[str]:
    """Name the strategies that decide now."""
    with open_shelf(settings) as opened:
        release = opened.releases.current()
        return {s.strategy_id for s in strategies_of(opened, release)} if release else set()


@dataclass(slots=True)
class StrategyNames:
    """Names strategies by the marks that tags carry; blocks for the store now and then."""

    shelves: Callable[[], Shelf]
    clock: Clock
    _names: dict[int, str] = field(default_factory=dict)
    _asked_s: dict[int, float] = field(default_factory=dict)
    """By mark: the events of a strategy that was published a moment ago must find its name."""

    def __call__(self, mark: int) -> str:
        """Give the id, or the mark as text where no strategy of ours is known to have it."""
        now_s = self.clock.monotonic_s()
        if mark not in self._names and now_s - self._asked_s.get(mark, -inf) > _NAMES_S:
            self._asked_s[mark] = now_s
            self._learn()
        return self._names.get(mark) or marked(mark)

    def _learn(self) -> None:
        shelf = self.shelves()
        release = shelf.releases.current()
        if release is not None:
            for strategy in strategies_of(shelf, release):
                self._names[strategy_mark(strategy.strategy_id)] = strategy.strategy_id


@dataclass(slots=True)
class WantedTerms:
    """What the strategies that decide now ask of cost control; blocks."""

    shelves: Callable[[], Shelf]
    _release_id: str = ""
    _terms: Mapping[str, Terms] = field(default_factory=dict)

    def __call__(self) -> Mapping[str, Terms]:
        """Give the terms of each control unit; reads strategies only of another release."""
        shelf = self.shelves()
        release = shelf.releases.current()
        found = release.release_id if release else ""
        if found != self._release_id:
            try:
                self._terms = terms_of(strategies_of(shelf, release)) if release else {}
            except StartupError as error:
                raise DegradedError(str(error)) from error
            self._release_id = found
        return self._terms


def open_controller(settings: Settings, url: str, telemetry: Telemetry) -> Controller:
    """Open what holds costs at their targets; raises StoreUnavailable where a cluster is away."""
    client = admin_client(url)
    return Controller(
        Place(secrets.token_hex(8)),
        ControlStore(client, settings.namespace),
        ControlFeed(client, settings.namespace),
        WantedTerms(functools.cache(lambda: shelf(settings, url))),
        telemetry,
    )


def open_publisher(settings: Settings, url: str, log: EventLog) -> FeedPublisher:
    """Open what tells cost control of the ledger's changes."""
    open_ledger = functools.partial(Ledger, ledger_path(settings), is_reader=True)
    return FeedPublisher(open_ledger, ControlFeed(admin_client(url), settings.namespace), log)


class JsonLines(logging.Handler):
    """Writes what the consumers say as every process does: one JSON object a line."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        say("consumers_say", self._clock, message=record.getMessage())


def nearline_app(settings: Settings, url: str) -> FastAPI:
    """Build the ingest port's application, with the consumers running beside it."""
    clock = SystemClock()
    logging.getLogger("rta_service.feedback").addHandler(JsonLines(clock))
    client = watch_client(url, _STORE_TIMEOUT_S, _CONNECTIONS)
    log = event_log(settings, url, client)
    poison = PoisonStore(client, settings.namespace)
    lease = Lease(client, settings.namespace, WORK, clock)
    progress = {name: Progress() for name in GROUPS}
    source = Source(log, poison, functools.partial(sealer, settings), lease.is_mine)
    telemetry = Telemetry.open(settings.run_dir, "nearline")
    watch = Watch(log, poison, progress, telemetry, clock)

    async def consuming() -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch.run())
                groups = functools.partial(open_groups, settings, url, clock)
                tasks.create_task(consume(lease, groups, source, progress))
                tasks.create_task(
                    run_publisher(lambda: open_publisher(settings, url, log), lease.is_mine)
                )
                tasks.create_task(run_control(lambda: open_controller(settings, url, telemetry)))
        except* Exception as errors:  # noqa: BLE001 - nobody expected it: the process ends, told, and is started anew
            for error in errors.exceptions:
                say("consumers_failed", clock, error=f"{type(error).__name__}: {error}")
            signal.raise_signal(signal.SIGTERM)

    async def health() -> Mapping[str, GroupHealth]:
        return {
            name: GroupHealth(
                state.unread, state.unacknowledged, state.lag_s, state.is_stuck, state.trouble
            )
            for name, state in watch.states.items()
        }

    def tokens_trouble(message: str) -> None:
        say("tokens_refused", clock, error=message)

    rules = ReadingRules(0, _max_age_ms(settings), currency=settings.event_currency)
    intake = Intake(log, sealer(settings), rules, clock, links(settings), telemetry.count_lines)
    control = secret(settings, "control_token").decode()
    tokens = TokenFile(settings.tokens_path, control, clock, tokens_trouble)
    return ingest_app(intake, tokens, health, background=consuming)


@contextmanager
def open_groups(settings: Settings, url: str, clock: Clock) -> Iterator[Sequence[Group]]:
    """Open what the groups write to, for as long as this process is the one that consumes."""
    with ExitStack() as stack:
        store = admin_client(url)
        stack.callback(store.close)
        keys = key_ring(settings)
        archive_rules = replace(ARCHIVE_RULES, rest_s=settings.archive_every_s)
        archive = stack.enter_context(EventArchive(settings.archive_folder))
        rules = AttributionRules(late_ms=_max_age_ms(settings) + DAY_MS)
        ledger = stack.enter_context(Ledger(ledger_path(settings)))
        shelves = functools.cache(lambda: shelf(settings, url))
        names = StrategyNames(shelves, clock)
        facts = FactReader(keys, tag_reader(settings), names)
        yield (
            Group("fresh", FreshRecords(DeltaStore(store, settings.namespace), keys)),
            Group("archive", archive, archive_rules),
            Group("attribution", Attributing(ledger, facts, rules, clock), _LEAVES_STORE),
        )
