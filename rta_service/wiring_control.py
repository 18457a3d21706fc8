"""The composition of the control process; `wiring` beside it."""

import asyncio
import functools
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from rta_service.config import Settings
from rta_service.domain.clock import Clock
from rta_service.domain.control_order import Order
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.request import AdRequest
from rta_service.feedback.control_status import ControlStatus
from rta_service.online.explain import Means, explain
from rta_service.platforms.registry import load_adapters
from rta_service.releasing.background import Background, Pace
from rta_service.releasing.desk import Desk
from rta_service.releasing.fresh_rules import FreshRules
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.trial_office import Habits, Parts, TrialOffice, open_office
from rta_service.releasing.uploading import Uploads
from rta_service.stores.control_store import ControlStore
from rta_service.stores.idempotency import IdempotencyStore
from rta_service.stores.token_file import TokenFile
from rta_service.telemetry import SkewAlarm, exposition
from rta_service.web.control import Desks, control_app
from rta_service.web.control_routes import control_routes
from rta_service.web.gate import Gate
from rta_service.web.idempotency import Idempotency
from rta_service.web.trial_routes import outcome_routes, trial_routes
from rta_service.web.upload_routes import UploadLimits
from rta_service.wiring import (
    Deciding,
    autopilot,
    host_name,
    key_ring,
    rollouts,
    say,
    secret,
    tag_codec,
    upload_rules,
)


def trial_office(settings: Settings, parts: Deciding) -> TrialOffice:
    """Put together what the control process does with models on trial; nothing runs yet."""
    said: dict[str, str] = {}

    def failed(work: str, error: Exception | None) -> None:
        text = f"{type(error).__name__}: {error}" if error else ""
        if said.get(work, "") != text:
            say("trials_fail" if text else "trials_go_on", parts.clock, work=work, error=text)
        said[work] = text

    pilot = autopilot(settings, parts.shelves, parts.clock)
    keys = key_ring(settings)
    given = Parts(parts.shelves, pilot, keys, parts.clock, parts.telemetry, failed)
    habits = Habits(settings.run_dir, host_name(settings), settings.shadow_cpu_share)
    return open_office(given, habits)


def control_service(settings: Settings, parts: Deciding, trials: TrialOffice) -> FastAPI:
    """Build the control port's application."""
    means = Means(parts.reader, key_ring(settings), parts.clock, tag_codec(settings), parts.desk)
    shelves = parts.shelves
    releases = Desk(shelves, parts.clock)
    rules = FreshRules(
        functools.partial(upload_rules, settings),
        lambda error: say("model_keys_refused", parts.clock, error=error),
    )

    def control_store() -> ControlStore:
        return ControlStore(shelves().client, settings.namespace)

    def read_orders() -> dict[str, Order]:
        return control_store().orders()

    async def explain_request(request: AdRequest) -> dict[str, Any]:
        await parts.watcher.poll()
        live = parts.pipeline.live
        if live is None:
            raise StoreUnavailable("no release is loaded: publish one first")
        if live.is_steered:
            parts.desk.look(await asyncio.to_thread(read_orders))
        return await explain(live, means, request)

    desks = Desks(
        releases,
        rollouts(settings, shelves, parts.clock),
        Uploads(shelves, rules, parts.clock, settings.models_folder),
        UploadLimits(),
        explain_request,
        lambda: exposition(settings.run_dir, parts.clock.now_ms()),
    )
    gate = control_gate(settings, shelves, releases, parts.clock)
    more = [functools.partial(make, desk=trials) for make in (trial_routes, outcome_routes)]
    status = ControlStatus(control_store, parts.clock)
    more.append(functools.partial(control_routes, desk=status))
    return control_app(gate, desks, load_adapters(), more)


def skew_alarm(settings: Settings, clock: Clock) -> Background:
    """Watch, beside the control port's requests, that all decision workers agree on a release."""
    alarm = SkewAlarm(settings.run_dir, clock.now_ms, functools.partial(say, clock=clock))

    def failed(error: Exception | None) -> None:
        if error is not None:
            say("skew_unknown", clock, error=f"{type(error).__name__}: {error}")

    pace = Pace(period_s=0.5, cpu_share=0.05, cpu_s=time.thread_time)
    return Background("version skew", alarm.look, pace, failed)


def control_gate(
    settings: Settings, shelves: Callable[[], Shelf], releases: Desk, clock: Clock
) -> Gate:
    """Put together what every control request passes before its route."""

    def tokens_trouble(message: str) -> None:
        say("tokens_refused", clock, error=message)

    def current_id() -> str:
        release = releases.current()
        return release.release_id if release else ""

    control = secret(settings, "control_token").decode()
    doors = TokenFile(settings.tokens_path, control, clock, tokens_trouble)
    retries = Idempotency(lambda: IdempotencyStore(shelves().client, settings.namespace))
    return Gate(doors, retries, current_id)
