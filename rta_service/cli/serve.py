"""`rta serve`, and the processes it is made of."""

import os
import socket
import sys
from typing import Annotated, Final, NamedTuple

import typer
from pydantic import SecretStr

from rta_service import wiring
from rta_service.cli.app import app
from rta_service.cli.options import DataDir, RedisUrl
from rta_service.config import Settings
from rta_service.stores.durability import parse_durability
from rta_service.stores.embedded import EmbeddedStore
from rta_service.supervisor import (
    ChildSpec,
    Patience,
    Supervisor,
    Surroundings,
    bind_listener,
    tell_ready,
    watch_parent,
)
from rta_service.telemetry import Telemetry
from rta_service.web.server import serve as serve_app

_SWITCH_S: Final = 0.0005
"""How long a thread that makes a release ready may keep the interpreter from the requests. With
Python's 5 ms the 99th percentile of a small batch rose by 8 ms meanwhile, with this by 0.1 ms."""

_STEP_BACK: Final = 10
"""How much nicer than decisions the nearline process is where they share a core: events can wait."""

_Fd = Annotated[int, typer.Option(help="Inherited listening socket.")]


@app.command()
def serve(
    workers: Annotated[int | None, typer.Option(help="Decision processes.")] = None,
    port: Annotated[int | None, typer.Option(help="Decision port.")] = None,
    host: Annotated[str | None, typer.Option(help="Decision address.")] = None,
    control_port: Annotated[int | None, typer.Option(help="Control port.")] = None,
    control_host: Annotated[str | None, typer.Option(help="Control address.")] = None,
    ingest_port: Annotated[int | None, typer.Option(help="Ingest port.")] = None,
    ingest_host: Annotated[str | None, typer.Option(help="Ingest address.")] = None,
    data: DataDir = None,
    redis_url: RedisUrl = None,
) -> None:
    """Serve: decision workers, control, ingest, and the embedded store when no URL is given."""
    settings = wiring.load_settings(
        workers=workers,
        port=port,
        host=host,
        control_port=control_port,
        control_host=control_host,
        ingest_port=ingest_port,
        ingest_host=ingest_host,
        data_dir=data,
        redis_url=redis_url,
    )
    raise typer.Exit(supervise(settings))


def supervise(settings: Settings) -> int:
    """Run the supervisor until it is told to stop; gives its exit code."""
    watch_parent(os.environ, settings.drain_s)  # whoever started us, such as the demo
    for name in ("pepper", "experiment_key", "event_key", "control_token"):
        wiring.secret(settings, name)  # made once here, before the children race for them
    wiring.earlier_event_keys(settings)
    parse_durability(settings.durability)  # named here rather than by a child that won't start
    listeners = Listeners(
        bind_listener(settings.host, settings.port),
        bind_listener(settings.control_host, settings.control_port),
        bind_listener(settings.ingest_host, settings.ingest_port),
    )
    store = None
    if settings.redis_url is None:
        store = EmbeddedStore(settings.data_dir)
        settings = settings.model_copy(update={"redis_url": SecretStr(store.start())})
    telemetry = Telemetry.open(settings.run_dir, "supervisor")
    return Supervisor(
        children_of(settings, listeners),
        store,
        Patience(drain_s=settings.drain_s),
        Surroundings(observer=telemetry),
    ).serve()


class Listeners(NamedTuple):
    """The sockets that children serve on."""

    decisions: socket.socket
    control: socket.socket
    ingest: socket.socket


def children_of(settings: Settings, listeners: Listeners) -> list[ChildSpec]:
    """Describe the child processes; settings travel as environment variables."""
    # small batches: threads of LightGBM would only wait for one another
    env = {**settings.as_environment(), "OMP_NUM_THREADS": "1"}
    python = [sys.executable, "-m", "rta_service"]

    def child(kind: str, listener: socket.socket, name: str = "", *more: str) -> ChildSpec:
        fd = listener.fileno()
        argv = [*python, f"{kind}-worker", "--fd", str(fd), *more]
        return ChildSpec(name or kind, argv, kind=kind, pass_fds=(fd,), env=env)

    return [
        *(
            child("decision", listeners.decisions, f"decision-{index}", "--index", str(index))
            for index in range(settings.workers)
        ),
        child("control", listeners.control),
        child("nearline", listeners.ingest),
    ]


@app.command(hidden=True)
def decision_worker(fd: _Fd, index: Annotated[int, typer.Option()] = 0) -> None:
    """Serve decisions on an inherited socket; started by `rta serve`."""
    settings = wiring.load_settings()
    watch_parent(os.environ, settings.drain_s)
    with wiring.store_url(settings) as url:
        parts = wiring.deciding(settings, url, f"decision-{index}")
    listener = socket.socket(fileno=fd)
    sys.setswitchinterval(_SWITCH_S)
    serve_app(
        wiring.decision_lane(settings, parts),
        listener,
        lambda: tell_ready(os.environ),
        settings.drain_s,
    )


@app.command(hidden=True)
def control_worker(fd: _Fd) -> None:
    """Serve the control port on an inherited socket; started by `rta serve`."""
    from rta_service import wiring_control

    settings = wiring.load_settings()
    watch_parent(os.environ, settings.drain_s)
    with wiring.store_url(settings) as url:
        parts = wiring.deciding(settings, url, "control", takes_part=False)
    trials = wiring_control.trial_office(settings, parts)
    application = wiring_control.control_service(settings, parts, trials)
    listener = socket.socket(fileno=fd)
    with wiring_control.skew_alarm(settings, parts.clock), trials.running():
        serve_app(application, listener, lambda: tell_ready(os.environ), settings.drain_s)


@app.command(hidden=True)
def nearline_worker(fd: _Fd) -> None:
    """Take events in on an inherited socket and consume them; started by `rta serve`."""
    from rta_service import wiring_events

    settings = wiring.load_settings()
    watch_parent(os.environ, settings.drain_s)
    os.nice(_STEP_BACK)
    with wiring.store_url(settings) as url:
        wiring_events.check_durability(settings, url)
        application = wiring_events.nearline_app(settings, url)
    listener = socket.socket(fileno=fd)
    sys.setswitchinterval(_SWITCH_S)
    serve_app(application, listener, lambda: tell_ready(os.environ), settings.drain_s)
