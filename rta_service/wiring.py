"""The composition root: settings in, ready services out; the only file that picks parts."""

import asyncio
import contextlib
import functools
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec
from pydantic import ValidationError

from rta_service import secret_files
from rta_service.config import Settings
from rta_service.device_key import KEY_BYTES, KeyRing
from rta_service.domain.clock import Clock, SystemClock
from rta_service.domain.errors import DegradedError, InvalidInput
from rta_service.domain.release import SnapshotManifest
from rta_service.domain.request import AdRequest
from rta_service.domain.tag import Tag, TagCodec, reader_of
from rta_service.online.batcher import Batcher, BatchLimits
from rta_service.online.control_desk import ControlDesk
from rta_service.online.control_exchange import ControlExchange
from rta_service.online.pipeline import BatchOutcome, Pipeline
from rta_service.online.watcher import ReleaseWatcher
from rta_service.platforms.registry import load_adapters
from rta_service.releasing.autopilot_run import Autopilot, Rules
from rta_service.releasing.herald import Herald
from rta_service.releasing.loading import StoredReleases, all_warm, way_back
from rta_service.releasing.rollouts import Rollouts
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.uploading import UploadRules
from rta_service.scoring.bundle import BundleLimits
from rta_service.scoring.signature import (
    TrustedKey,
    key_from_secret,
    key_id,
    public_of,
    read_trusted,
)
from rta_service.stores.control_store import WorkerControl
from rta_service.stores.decision_records import DecisionRecordLog
from rta_service.stores.delta_store import days_between
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.profile_reader import RedisProfileReader
from rta_service.stores.redis import HotProfile, admin_client, hot_client, watch_client
from rta_service.stores.release_reader import AsyncReleaseReader, worker_name
from rta_service.telemetry import Telemetry, count_batch
from rta_service.telemetry.decision_records import DecisionRecorder
from rta_service.telemetry.sampling import Taking, TrafficSampler, open_ring
from rta_service.telemetry.steering_news import SteeringNews
from rta_service.web.decision import decision_app
from rta_service.web.lane import ASGIApp, Lane


def load_settings(**overrides: object) -> Settings:
    """Read the environment; options given on the command line win over it."""
    given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
    given["_secrets_dir"] = os.environ.get("RTA_SECRETS_DIR")
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        place = "RTA_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidInput(first["msg"], place) from None


def secret(settings: Settings, name: str) -> bytes:
    """Give one of the settings' secrets, made once in the data folder if none was given."""
    given = getattr(settings, name)
    text = None if given is None else given.get_secret_value()
    path = settings.data_dir / "secrets" / name
    return secret_files.obtain(text, path, f"RTA_{name.upper()}")


def key_ring(settings: Settings) -> KeyRing:
    """Gather the two secrets that turn ids into keys; BLAKE2b takes keys of up to 64 bytes."""
    pepper, experiment_key = secret(settings, "pepper"), secret(settings, "experiment_key")
    return KeyRing(pepper[:64], experiment_key[:64])


def tag_codec(settings: Settings) -> TagCodec:
    """Give what writes tags, and reads those of today's event key."""
    return TagCodec(secret(settings, "event_key"))


def earlier_event_keys(settings: Settings) -> list[bytes]:
    """Give the event keys of before; raises InvalidInput for a file that can't be read."""
    path = settings.earlier_event_keys
    if path is None:
        return []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        why = f"RTA_EARLIER_EVENT_KEYS can't be read: {error.strerror}"
        raise InvalidInput(why, str(path)) from error
    return [line.strip() for line in lines if line.strip()]


def tag_reader(settings: Settings) -> Callable[[str], Tag | None]:
    """Give what reads the tags that come back, also those of earlier event keys."""
    earlier = map(TagCodec, earlier_event_keys(settings))
    return reader_of([tag_codec(settings), *earlier])


def house_key(settings: Settings) -> bytes:
    """Give the private key of this data folder: models published on this host are signed by it."""
    path = settings.data_dir / "secrets" / "model_key"
    return key_from_secret(secret_files.obtain(None, path, str(path)))


def upload_rules(settings: Settings) -> UploadRules:
    """Gather what uploaded models are held to; raises InvalidInput for a bad trusted-keys file."""
    own = public_of(house_key(settings))
    trusted = {key_id(own): TrustedKey("this data folder", own)}
    usual = settings.data_dir / "secrets" / "model_keys"
    file = settings.model_keys or (usual if usual.is_file() else None)
    return UploadRules(
        trusted={**(read_trusted(file) if file else {}), **trusted},
        allow_unsigned=settings.allow_unsigned_models,
        limits=BundleLimits(max_bytes=settings.model_upload_mb * 1_000_000),
        run_dir=settings.run_dir,
    )


@contextmanager
def store_url(settings: Settings) -> Iterator[str]:
    """Give the store's URL; without a configured one the embedded server runs meanwhile."""
    if settings.redis_url is not None:
        yield settings.redis_url.get_secret_value()
        return
    store = EmbeddedStore(settings.data_dir)
    url = store.start()
    try:
        yield url
    finally:
        store.stop_if_unused()  # a service may have begun to use it meanwhile


def shelf(settings: Settings, url: str) -> Shelf:
    """Give commands and processes the place where the parts of releases stand."""
    platforms = tuple(adapter.info for adapter in load_adapters().values())
    return Shelf(
        admin_client(url),
        settings.namespace,
        settings.models_folder,
        platforms,
        key_ring(settings).pepper_id,
    )


@contextmanager
def open_shelf(settings: Settings) -> Iterator[Shelf]:
    """Open the store for a command: the embedded one runs for as long as somebody uses it."""
    with store_url(settings) as url:
        opened = shelf(settings, url)
        try:
            yield opened
        finally:
            opened.client.close()


@dataclass(frozen=True, slots=True)
class Deciding:
    """The parts that decide in one process."""

    reader: RedisProfileReader
    pipeline: Pipeline
    watcher: ReleaseWatcher
    telemetry: Telemetry
    clock: Clock
    shelves: Callable[[], Shelf]
    """Opens the process's one shelf, with its one cache of models."""
    process: str
    """Names it among the processes of this host."""
    desk: ControlDesk
    """What steers the strategies under cost control."""
    url: str
    """Of the store."""


def deciding(settings: Settings, url: str, process: str, *, takes_part: bool = True) -> Deciding:
    """Put together what a process needs to decide.

    One that takes part is waited for when a release is activated; one that does not (the control
    process) keeps the shadows' models warm besides.
    """
    clock = SystemClock()
    timeout_s = settings.store_timeout_ms / 1000
    # the socket's own time-out is longer: a late reply then keeps its connection
    profile = HotProfile(timeout_s=2 * timeout_s, max_connections=settings.store_connections)

    def fresh_days(snapshot: SnapshotManifest) -> range:
        return days_between(snapshot.as_of_s, clock.now_ms() // 1000)

    reader = RedisProfileReader(
        hot_client(url, profile),
        settings.namespace,
        timeout_s,
        fresh_days if settings.fresh_records else None,
    )
    desk = ControlDesk(key_ring(settings), clock, counts=takes_part)
    pipeline = Pipeline(reader, key_ring(settings), clock, tag_codec(settings), desk)
    telemetry = Telemetry.open(settings.run_dir, process)
    # opened at the first load, in its thread: a cluster's client connects at once, and a worker
    # must start and answer while the store is away
    shelves = functools.cache(lambda: shelf(settings, url))
    worker = worker_name(process, socket.gethostname(), os.getpid()) if takes_part else ""
    follower = AsyncReleaseReader(watch_client(url), settings.namespace, worker)
    source = StoredReleases(follower, shelves, way_back if takes_part else all_warm)
    herald = Herald(
        pipeline, telemetry, clock, functools.partial(say, clock=clock, process=process)
    )
    poll_s = settings.release_poll_ms / 1000
    watcher = ReleaseWatcher(source, pipeline, poll_s, herald.tell)
    return Deciding(reader, pipeline, watcher, telemetry, clock, shelves, process, desk, url)


def say(event: str, clock: Clock, **facts: str) -> None:
    """Write what whoever is on call must know, one JSON object a line; never on a request's way."""
    line = {"ts_ms": clock.now_ms(), "event": event, **facts}
    sys.stderr.write(msgspec.json.encode(line).decode() + "\n")
    sys.stderr.flush()


def decision_lane(settings: Settings, parts: Deciding) -> ASGIApp:
    """Build the decision port's application."""
    adapters = load_adapters()
    limits = BatchLimits(settings.budget_ms / 1000, settings.max_batch, settings.max_waiting)
    sampler = traffic_sampler(settings, parts)
    recorder = decision_recorder(settings, parts)
    exchange = control_exchange(settings, parts)

    async def follow() -> None:
        with contextlib.closing(recorder):
            try:
                await asyncio.gather(parts.watcher.run(), exchange.run())
            finally:  # what was done since the last time is told too
                await exchange.once()

    async def prepare() -> None:
        await warm(parts)
        await exchange.once()

    def observe(requests: list[AdRequest], outcome: BatchOutcome) -> None:
        count_batch(parts.telemetry, parts.reader, requests, outcome)
        sampler.take(requests, outcome)
        recorder.take(requests, outcome)

    batcher = Batcher(parts.pipeline, limits, observe)

    def ready() -> str:
        return "" if parts.pipeline.live is not None else "no release loaded yet"

    app = decision_app(adapters, ready, follow, prepare)
    return Lane(adapters, batcher, parts.telemetry, parts.clock, app)


def control_exchange(settings: Settings, parts: Deciding) -> ControlExchange:
    """Keep a worker's desk supplied, while any strategy is under cost control."""
    worker = worker_name(parts.process, socket.gethostname(), os.getpid())
    counter = WorkerControl(watch_client(parts.url), settings.namespace, worker)
    tell = functools.partial(say, clock=parts.clock, process=parts.process)
    news = SteeringNews(parts.telemetry, parts.clock, tell)

    def is_needed() -> bool:
        live = parts.pipeline.live
        return live is not None and live.is_steered

    return ControlExchange(parts.desk, counter, parts.clock, is_needed, news.tell)


def traffic_sampler(settings: Settings, parts: Deciding) -> TrafficSampler:
    """Keep some of a worker's scored rows, to compare models on."""
    _, _, index = parts.process.rpartition("-")
    taking = Taking(
        settings.traffic_sample_rate,
        int(index) if index.isdecimal() else 0,
        settings.workers,
        parts.telemetry.count_internal_error,
    )
    ring = open_ring(settings.run_dir, parts.process, taking)
    return TrafficSampler(ring, taking, key_ring(settings), parts.clock)


def decision_recorder(settings: Settings, parts: Deciding) -> DecisionRecorder:
    """Record what strategies ask for; the store is opened by the first record, in its thread."""

    def open_log() -> DecisionRecordLog:
        return DecisionRecordLog(parts.shelves().client, settings.namespace)

    return DecisionRecorder(open_log, parts.telemetry, key_ring(settings), parts.clock)


async def warm(parts: Deciding) -> None:
    """Load the release and open a connection to the store before the first request."""
    await parts.watcher.poll()
    live = parts.pipeline.live
    if live is None:
        return
    with contextlib.suppress(DegradedError):  # the store may be away: requests will say so
        await parts.reader.read(live.snapshot, [bytes(KEY_BYTES)])


def rollouts(settings: Settings, shelves: Callable[[], Shelf], clock: Clock) -> Rollouts:
    """Give commands and the control port what may be done with models' versions."""
    return Rollouts(shelves, clock, two_person=settings.two_person_approval)


def autopilot(settings: Settings, shelves: Callable[[], Shelf], clock: Clock) -> Autopilot:
    """Give commands and the control process what judges and moves models on trial."""
    rules = Rules(host_name(settings), settings.autopilot)
    return Autopilot(shelves, rollouts(settings, shelves, clock), clock, rules)


def host_name(settings: Settings) -> str:
    """Name this host's service among all that share the store."""
    folder = sha256(str(settings.data_dir.resolve()).encode()).hexdigest()[:8]
    return f"{socket.gethostname()}-{folder}"
