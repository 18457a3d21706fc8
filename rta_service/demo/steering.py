"""A strategy that comes to its target while one watches: bids, auctions, and what is told of them.

Each second platforms ask about people; the bids stand in auctions, and wins, clicks and
registrations are told to the ingest port, as in life. Nothing is told to the controller otherwise.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from rta_service.demo.judging import Check
from rta_service.demo.platforms import ENCODERS
from rta_service.domain.clock import Clock
from rta_service.domain.control import MICROS
from rta_service.domain.control_order import UnitView, unit_id
from rta_service.domain.errors import StartupError
from rta_service.domain.events import Event
from rta_service.feedback.sending import EventSender, Port, parts_of
from rta_service.online.strategy_file import parse
from rta_service.simulation.client import run_load
from rta_service.simulation.live_auctions import Market, Outcome, resolve
from rta_service.simulation.load import LoadPlan, PreparedRequest
from rta_service.simulation.traffic import SimulatedRequest

STRATEGY: Final = "steered"
UNIT: Final = unit_id(STRATEGY, "json")
PCTR: Final = 0.3
"""Of a rewarded video: a minute must show what takes a day at life's rates."""
_SWITCH_S: Final = 30.0
_LATE_S: Final = 6.0
"""Mean time from a click to a registration."""
_DEAR: Final = 0.9
"""The median of others' bids over the first bids' median: the target is hard to hold."""

Json = dict[str, Any]


class Second(NamedTuple):
    """What one second of bidding brought."""

    bids: int
    mean_cpm_micros: float
    won: int
    cost_micros: int
    clicks: int
    converted: int
    """That arrived in this second."""


@dataclass(frozen=True, slots=True)
class Steered:
    """A run, second by second, and where the unit stood after each."""

    target_micros: float
    seconds: list[Second]
    views: list[UnitView | None]

    def cost_micros(self, end: int | None = None) -> float | None:
        """Give the cost of a conversion that arrived, up to a second; None without any."""
        part = self.seconds[:end]
        converted = sum(one.converted for one in part)
        return sum(one.cost_micros for one in part) / converted if converted else None


@dataclass(frozen=True, slots=True)
class Stage:
    """Where to bid and where to tell."""

    asked: Sequence[SimulatedRequest]
    """Requests of the json platform, asked again and again under new ids."""
    port: int
    ingest: Port
    look: Callable[[], UnitView | None]
    """Gives what people see of the unit."""
    rate_per_s: int
    seed: int
    target_micros: float
    clock: Clock


class _Priced(NamedTuple):
    request: SimulatedRequest
    cpm_micros: float
    pcvr: float
    tag: str


def strategies_text() -> str:
    """Give the demo's strategies with the steered one."""
    folder = files("rta_service.demo")
    names = ("strategies.toml", "steered.toml")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


def target_micros() -> float:
    """Give the target of the steered strategy."""
    strategy = next(one for one in parse(strategies_text()) if one.strategy_id == STRATEGY)
    return strategy.target_cpa_micros


def steer(stage: Stage, seconds: int, show: Callable[[Steered], None]) -> Steered:
    """Bid for some seconds; `show` is called after each. Raises StartupError without any bid."""
    run = Steered(stage.target_micros, [], [])
    rng = np.random.default_rng([stage.seed, 5])
    market = Market(_DEAR * _first_bid(stage))
    late: defaultdict[int, list[Json]] = defaultdict(list)
    with EventSender(stage.ingest) as sender:
        for second in range(1, seconds + 1):
            began_s = stage.clock.monotonic_s()
            priced = _ask(stage, second)
            pcvr = np.array([one.pcvr for one in priced])
            cpm = np.array([one.cpm_micros for one in priced])
            found = resolve(market, cpm, np.full(len(priced), PCTR), pcvr, rng)
            for place in np.flatnonzero(found.converted).tolist():
                due = second + round(rng.exponential(_LATE_S))
                late[due].append({"event": Event.REGISTER, **_told(priced[place])})
            arrived = late.pop(second, [])
            lines = _lines([*_events(priced, found), *arrived], stage.clock.now_ms())
            for part in parts_of(lines):
                sender.send(part.lines)
            run.seconds.append(_counted(cpm, found, len(arrived)))
            run.views.append(stage.look())
            show(run)
            time.sleep(max(0.0, began_s + 1.0 - stage.clock.monotonic_s()))
    return run


def _first_bid(stage: Stage) -> float:
    """Wait until the strategy is steered, and give the median of its neutral bids."""
    end_s = stage.clock.monotonic_s() + _SWITCH_S
    while stage.clock.monotonic_s() < end_s:
        if stage.look() is not None and (priced := _ask(stage, 0)):
            return float(np.median([one.cpm_micros for one in priced]))
        time.sleep(0.2)
    raise StartupError(f"strategy {STRATEGY} gave no bid within {_SWITCH_S:.0f} s")


def _ask(stage: Stage, second: int) -> list[_Priced]:
    """Ask about a second's people, in a second, and give those who were bid for."""
    start = second * stage.rate_per_s
    requests = [
        msgspec.structs.replace(
            stage.asked[(start + place) % len(stage.asked)],
            request_id=f"steered-{stage.seed}-{second}-{place}",
            pctr=PCTR,
        )
        for place in range(stage.rate_per_s)
    ]
    prepared = [PreparedRequest("/rta/json", ENCODERS["json"](one)) for one in requests]
    priced: list[_Priced] = []

    def on_answer(index: int, status: int, body: bytes, _latency_s: float) -> None:
        if status == 200 and (bid := _bid_of(body)) is not None:  # noqa: PLR2004 - HTTP's OK
            priced.append(_Priced(requests[index], *bid))

    plan = LoadPlan(connections=8, rate_per_s=stage.rate_per_s * 1.25, duration_s=5.0)
    asyncio.run(run_load(("127.0.0.1", stage.port), prepared, plan, on_answer))
    return sorted(priced, key=lambda one: one.request.request_id)


def _bid_of(body: bytes) -> tuple[float, float, str] | None:
    answer: Json = msgspec.json.decode(body)
    for one in answer["strategies"]:
        if one["strategy_id"] == STRATEGY and one["participate"]:
            return one["bid"]["value"], one["pcvr"]["register"], one["tag"]
    return None


def _told(one: _Priced) -> Json:
    ids = [{"kind": i.kind, "form": i.form, "value": i.value} for i in one.request.ids]
    return {"ids": ids, "channel": "json", "request_id": one.request.request_id, "tag": one.tag}


def _events(priced: Sequence[_Priced], found: Outcome) -> Iterator[Json]:
    for place in np.flatnonzero(found.won).tolist():
        told = _told(priced[place])
        cost = {"cost_micros": int(found.cost_micros[place]), "currency": "CNY"}
        yield {"event": Event.AD_WIN, **told, **cost}
        if found.clicked[place]:
            yield {"event": Event.AD_CLICK, **told}


def _lines(events: Sequence[Json], now_ms: int) -> list[bytes]:
    return [
        msgspec.json.encode(
            {**one, "event_id": f"{one['request_id']}-{one['event']}", "ts_ms": now_ms}
        )
        for one in events
    ]


def _counted(cpm: "np.typing.NDArray[np.float64]", found: Outcome, arrived: int) -> Second:
    return Second(
        len(cpm),
        float(cpm.mean()) if len(cpm) else 0.0,
        int(found.won.sum()),
        int(found.cost_micros.sum()),
        int(found.clicked.sum()),
        arrived,
    )


def check_of(run: Steered) -> Check:
    """Check that the cost is at the target once the late ones have come, as far as chance allows."""
    view = run.views[-1]
    standing = view.standings[0] if view and view.standings else None
    cost = standing.expected_cost_micros if standing else None
    arrived = standing.arrived if standing else 0.0
    # three standard deviations: at two, chance alone fails one run in twenty
    within = 0.1 + 3.0 / max(arrived, 1.0) ** 0.5
    held = cost is not None and abs(cost / run.target_micros - 1.0) <= within
    shown = "no conversions" if cost is None else f"{cost / MICROS:.2f} a registration"
    name = f"the steered strategy comes to its target of {run.target_micros / MICROS:.0f}"
    return Check(name, held, f"{shown}, of {arrived:.0f}; allowed {within:.0%}")


def document_of(run: Steered) -> Json:
    """Give the run for scripts, with where the unit stood after each second."""
    return {
        "target_micros": run.target_micros,
        "cost_micros": run.cost_micros(),
        "seconds": [
            {**one._asdict(), "standing": _standing(view)}
            for one, view in zip(run.seconds, run.views, strict=True)
        ],
    }


def _standing(view: UnitView | None) -> Json | None:
    return msgspec.to_builtins(view.standings[0]) if view and view.standings else None
