"""A world to decide in: a simulated market put through the real build, training and release."""

from dataclasses import dataclass, replace
from datetime import date
from importlib.resources import files
from pathlib import Path

from rich.progress import Progress

from rta_service import wiring
from rta_service.config import Settings
from rta_service.domain.errors import StartupError
from rta_service.domain.funnel import REGISTER, TRADE
from rta_service.domain.release import ModelRef, Release
from rta_service.offline.audience.build import BuildOptions, build_profiles
from rta_service.offline.audience.report import BuildReport
from rta_service.offline.events import LogOptions
from rta_service.offline.training.report import TrainReport
from rta_service.offline.training.train import TrainOptions, train_models
from rta_service.releasing.publishing import Change, publish as publish_release
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.uploading import UploadFacts, accept_signed
from rta_service.scoring.disposable import DisposableProcess
from rta_service.simulation.market import Truth, simulate_market
from rta_service.simulation.people import MarketOptions
from rta_service.stores.model_folder import latest_bundles
from rta_service.stores.snapshots import LoadOptions, load_snapshot


@dataclass(frozen=True, slots=True)
class World:
    """What was made, and the truth behind it."""

    truth: Truth
    events: Path
    snapshot: Path
    build: BuildReport
    training: TrainReport
    release: Release


@dataclass(frozen=True, slots=True)
class WorldOptions:
    """How large, which one, and when."""

    devices: int
    seed: int
    as_of: date
    now_ms: int


def prepare_world(options: WorldOptions, settings: Settings, progress: Progress) -> World:
    """Simulate a market, build its records, train its models, publish one release.

    The store runs only meanwhile; what was published is there when a service starts on the
    same data folder.
    """
    step = progress.add_task("simulating a marketplace", total=5)
    market = simulate_market(
        MarketOptions(devices=options.devices, seed=options.seed, as_of=options.as_of)
    )
    folder = settings.data_dir
    folder.mkdir(parents=True, exist_ok=True)
    events, snapshot, models = folder / "events.parquet", folder / "snapshot", folder / "trained"
    market.write_events(events)
    progress.update(step, advance=1, description="building user records")
    build = build_profiles(
        events,
        snapshot,
        BuildOptions(as_of=options.as_of),
        wiring.key_ring(settings),
        options.now_ms,
    )
    progress.update(step, advance=1, description="training register and trade")
    train_options = TrainOptions(log=LogOptions(as_of=options.as_of), seed=options.seed)
    training = train_models(events, models, train_options, options.now_ms)
    progress.update(step, advance=1, description="loading the snapshot, publishing a release")
    with wiring.open_shelf(settings) as shelf:
        manifest = load_snapshot(shelf.client, shelf.namespace, snapshot, LoadOptions())
        refs = _uploaded(shelf, models, settings, options.now_ms)
        text = files("rta_service.demo").joinpath("strategies.toml").read_text(encoding="utf-8")
        change = Change(manifest.snapshot_id, refs, text, "the demo's first release", "demo")
        release = publish_release(shelf, change, options.now_ms)
    if not isinstance(release, Release):
        raise StartupError(f"the demo's release lacks {release.missing}")
    progress.update(step, advance=2, description="a marketplace, its models and a release")
    return World(market.truth, events, snapshot, build, training, release)


def _uploaded(shelf: Shelf, trained: Path, settings: Settings, now_ms: int) -> tuple[ModelRef, ...]:
    """Upload the trained models through every gate, as a growth team would.

    One that is refused is left out; without `register` and `trade` there is no release.
    """
    facts = UploadFacts(by="demo", at_ms=now_ms, why="the demo's first release")
    with DisposableProcess() as process:
        rules = replace(wiring.upload_rules(settings), shared=process)
        held_to = rules, wiring.house_key(settings)
        verdicts = [accept_signed(shelf, one, facts, held_to) for one in latest_bundles(trained)]
    for verdict in verdicts:
        if not verdict.accepted and verdict.name in (REGISTER, TRADE):
            raise StartupError(f"the demo's model {verdict.name} was refused: {verdict.reason}")
    return tuple(verdict.ref for verdict in verdicts if verdict.ref)
