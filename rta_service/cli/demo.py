"""`rta demo`: the main job end to end on a simulated marketplace."""

import contextlib
import itertools
import signal
import tempfile
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer
from rich.live import Live
from rich.progress import Progress

from rta_service import wiring
from rta_service.cli.app import app, progress, stdout
from rta_service.cli.options import AsJson, now_ms
from rta_service.cli.release import print_json
from rta_service.config import Settings
from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import InvalidInput

if TYPE_CHECKING:
    from rta_service.demo.feedback import Sent
    from rta_service.demo.play import Played
    from rta_service.demo.steering import Steered
    from rta_service.domain.attribution import Cell
    from rta_service.simulation.traffic import SimulatedRequest

_STOP_ASKING_S: Final = 3.0
"""What is being asked for is a second's worth."""
_STEERED_PER_S: Final = 400


class _Size(NamedTuple):
    devices: int
    seed: int
    requests: int
    rate_per_s: float
    steer_s: int


@app.command()
def demo(
    devices: Annotated[int, typer.Option(min=2000, max=1_000_000, help="Device ids.")] = 50_000,
    seed: Annotated[int, typer.Option(help="Same seed, same day: same world.")] = 7,
    port: Annotated[int, typer.Option(help="Decision port.")] = 8000,
    control_port: Annotated[int, typer.Option(help="Control port.")] = 8001,
    ingest_port: Annotated[int, typer.Option(help="Ingest port.")] = 8002,
    workers: Annotated[int, typer.Option(min=1, help="Decision processes.")] = 1,
    requests: Annotated[int, typer.Option(min=500, help="Platform requests to play.")] = 20_000,
    rate: Annotated[
        float, typer.Option(min=10, max=10_000, help="How many of them a second.")
    ] = 1500,
    data: Annotated[
        Path | None, typer.Option(help="Keep the world in this folder, for the other commands.")
    ] = None,
    steer: Annotated[
        int, typer.Option(min=0, max=600, help="Seconds to watch a strategy come to its target.")
    ] = 60,
    traffic: Annotated[
        float, typer.Option(min=0, max=2000, help="Requests a second to go on with after the run.")
    ] = 0,
    leave: Annotated[
        bool, typer.Option("--exit", help="End after the run: 0 only if its checks held.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Simulate a marketplace, build, train, publish, serve, and play the ad platforms."""
    if data is not None and (data / "events.parquet").exists():
        raise InvalidInput("holds a world already: rta serve --data serves it", str(data))
    # end like Ctrl-C, so that the service and the folder go too
    signal.signal(signal.SIGTERM, _interrupt)
    with ExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rta-demo-")))
        settings = Settings(
            data_dir=folder,
            redis_url=None,
            host="127.0.0.1",
            port=port,
            control_port=control_port,
            ingest_host="127.0.0.1",
            ingest_port=ingest_port,
            workers=workers,
            namespace="rta" if data else "demo",  # the other commands' default
        )
        size = _Size(devices, seed, requests, rate, steer)
        passed, platforms = _run(settings, size, stack, as_json=as_json, stays=not leave)
        if not leave:
            _serve_on(platforms, settings.port, traffic)
    raise typer.Exit(0 if passed else 1)


def _run(
    settings: Settings,
    size: _Size,
    stack: ExitStack,
    *,
    as_json: bool,
    stays: bool,
) -> tuple[bool, "list[SimulatedRequest]"]:
    from rta_service.demo import feedback, judging, play, report, steering, world
    from rta_service.simulation.traffic import TrafficOptions, simulate_traffic
    from rta_service.telemetry import read_all

    with progress(quiet=as_json) as bars:
        now = now_ms()
        today = datetime.fromtimestamp(now / 1000, UTC).date()
        made = world.prepare_world(
            world.WorldOptions(size.devices, size.seed, today, now), settings, bars
        )
        starting = bars.add_task("starting the service", total=1)
        stack.enter_context(play.running_service(settings, SystemClock()))
        bars.update(starting, advance=1, description="service started")
        traffic = TrafficOptions(requests=size.requests, seed=size.seed)
        asked = list(simulate_traffic(made.truth, traffic))
        played = play.play(asked, settings.port, size.rate_per_s, bars)
        sent, found = _play_back(played, settings, size.seed, bars)
    oracle = judging.Oracle(made.snapshot, wiring.key_ring(settings), now_ms() // 1000)
    checks = judging.judge(played, oracle, made.release.release_id)
    checks += feedback.checks_of(sent, found)
    totals = read_all(settings.run_dir)
    steered = _steer(asked, settings, size, quiet=as_json) if size.steer_s else None
    if steered is not None:
        checks.append(steering.check_of(steered))
    document = report.document_of(made, played, oracle, totals, checks)
    document["came_back"] = feedback.document_of(sent, found)
    if steered is not None:
        document["steered"] = steering.document_of(steered)
    token = wiring.secret(settings, "control_token").decode()
    # what nothing answers any more is not worth printing
    curls = report.curl_lines(settings, played, token) if stays or as_json else []
    _print(document, curls, as_json=as_json)
    return bool(document["passed"]), asked


def _play_back(
    played: "Played", settings: Settings, seed: int, bars: Progress
) -> "tuple[Sent, list[Cell]]":
    """Tell the service what became of its answers, and wait until it has counted that."""
    from rta_service import wiring_events
    from rta_service.demo import feedback
    from rta_service.feedback.attributing import cells
    from rta_service.feedback.sending import Port
    from rta_service.stores.ledger import Ledger

    step = bars.add_task("playing back clicks and conversions", total=1)
    token = wiring.secret(settings, "control_token").decode()
    port = Port(f"http://127.0.0.1:{settings.ingest_port}", token)
    told_ms = now_ms()
    sent = feedback.play_back(played, port, wiring_events.links(settings), told_ms, seed)

    def read_cells(since_ms: int, until_ms: int) -> "list[Cell]":
        with Ledger(wiring_events.ledger_path(settings), is_reader=True) as ledger:
            return cells(ledger, since_ms, until_ms)

    found = feedback.settled(sent, read_cells, told_ms)
    bars.update(step, advance=1)
    return sent, found


def _steer(
    asked: "list[SimulatedRequest]", settings: Settings, size: _Size, *, quiet: bool
) -> "Steered":
    """Publish one strategy more, bid with it, and show how its cost comes to its target."""
    from rta_service.demo import steering
    from rta_service.demo.steering_view import table_of
    from rta_service.feedback.sending import Port
    from rta_service.releasing.publishing import Change, publish
    from rta_service.stores.control_store import ControlStore

    token = wiring.secret(settings, "control_token").decode()
    with wiring.open_shelf(settings) as shelf:
        text = steering.strategies_text()
        change = Change(strategies=text, note="a steered strategy", who="demo")
        publish(shelf, change, now_ms())
        store = ControlStore(shelf.client, shelf.namespace)
        stage = steering.Stage(
            [request for request in asked if request.platform == "json" and not request.is_ping],
            settings.port,
            Port(f"http://127.0.0.1:{settings.ingest_port}", token),
            lambda: store.views().get(steering.UNIT),
            _STEERED_PER_S,
            size.seed,
            steering.target_micros(),
            SystemClock(),
        )
        if quiet:
            return steering.steer(stage, size.steer_s, lambda _: None)
        with Live(console=stdout, auto_refresh=False) as live:
            return steering.steer(
                stage, size.steer_s, lambda run: live.update(table_of(run), refresh=True)
            )


def _print(document: dict[str, Any], curls: list[str], *, as_json: bool) -> None:
    from rta_service.demo import report

    if as_json:
        print_json({**document, "curl": curls})
        return
    report.show(document, stdout)
    if curls:
        stdout.print("\ntry it yourself:")
    for line in curls:
        typer.echo("  " + line)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _serve_on(asked: "list[SimulatedRequest]", port: int, rate_per_s: float) -> None:
    """Wait for Ctrl-C, with the same platforms asking again and again if that is wanted."""
    ended = threading.Event()
    asking = threading.Thread(target=_ask_on, args=(asked, port, rate_per_s, ended), daemon=True)
    stdout.print("\nserving until Ctrl-C")
    signal.signal(signal.SIGINT, _interrupt)  # also where a shell made us ignore it
    with contextlib.suppress(KeyboardInterrupt):
        if rate_per_s:
            asking.start()
        threading.Event().wait()
    ended.set()
    if asking.is_alive():
        asking.join(_STOP_ASKING_S)


def _ask_on(
    asked: "list[SimulatedRequest]", port: int, rate_per_s: float, ended: threading.Event
) -> None:
    """Send requests a second's worth at a time, in a thread: an interrupt ends the main one."""
    from rta_service.demo.play import play

    step = max(1, round(rate_per_s))
    for start in itertools.cycle(range(0, len(asked), step)):
        if ended.is_set():
            return
        play(asked[start : start + step], port, rate_per_s, Progress(disable=True))
