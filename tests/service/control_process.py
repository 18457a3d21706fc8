"""Processes of cost control, to be killed: `control_process.py controller|worker ...`.

A controller steps one unit over and over. A worker spends what it is granted in auctions, of which it
wins half, and writes each win to a file, with its instant and its price, before anything else.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rta_service.domain.clock import SystemClock
from rta_service.domain.control import Aim, Budget, CostGoal, Mode, Reason, Targets
from rta_service.domain.control_order import ControlSettings, Grant, Usage
from rta_service.domain.errors import DegradedError
from rta_service.domain.platform import BidKind
from rta_service.feedback.controlling import Controller, Place
from rta_service.nearline.control.feeding import Terms
from rta_service.stores.control_feed import ControlFeed
from rta_service.stores.control_store import ControlStore, WorkerControl
from rta_service.stores.redis import admin_client, watch_client

UNIT = "s1@json"
SPACE = "faults"
LIFE_MS = 300
WIN_WINDOW_MS = 7_000
"""A grant's 5 s, and 2 s in which this market tells wins."""
PRICE_MICROS = 2_000
TURN_S = 0.05


class Unseen:
    """Where nothing is shown."""

    def count_control_steps(self, steps: int, /) -> None:
        """Count nothing."""

    def show_control(self, units: int, oldest_s: float, lag_s: float, *, outage: bool) -> None:
        """Show nothing."""

    def show_control_guards(self, flags: Mapping[Reason, int], /) -> None:
        """Show nothing."""


def terms(budget: int) -> Terms:
    """Steer a unit of a short horizon, which steps every second."""
    aim = Aim(Mode.TCPA, Targets(shallow_micros=2_000_000), CostGoal.SHALLOW)
    settings = ControlSettings(
        aim, Budget(budget) if budget else None, horizon_s=60.0, ahead_ms=86_400_000
    )
    return Terms(settings, BidKind.CPM if budget else BidKind.CPC)


def control(url: str, budget: str) -> None:
    """Control until killed."""
    client, wanted = admin_client(url, 1.0), {UNIT: terms(int(budget))}
    controller = Controller(
        Place(f"{os.getpid()}-{time.time_ns()}", life_ms=LIFE_MS),
        ControlStore(client, SPACE, WIN_WINDOW_MS),
        ControlFeed(client, SPACE),
        lambda: wanted,
        Unseen(),
    )
    while True:
        with suppress(DegradedError):  # the store is away, or another one took over
            controller.turn()
        time.sleep(TURN_S)


async def spend(url: str, name: str, wins: str, wanted: str, auctions: str) -> None:
    """Bid until killed: so many auctions each tenth of a second, as long as there is money."""
    chance, clock = random.Random(name), SystemClock()
    desk = WorkerControl(watch_client(url, 0.5), SPACE, name)
    file = os.open(Path(wins), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    grants: list[tuple[Grant, int]] = []
    told, hold = Usage(UNIT), PRICE_MICROS
    while True:
        with suppress(DegradedError):  # the store is away: go on with what was granted
            told, usage = Usage(UNIT), told
            got = await desk.exchange([usage], {UNIT: int(wanted)})
            grants += [(grant, grant.micros) for grant in got.grants]
            if got.orders is not None and UNIT in got.orders:
                hold = round(PRICE_MICROS * got.orders[UNIT].hold_rate)
        for _ in range(5):
            grants = [(grant, left) for grant, left in grants if grant.until_ms > clock.now_ms()]
            for _ in range(int(auctions)):
                if not _held(grants, hold):
                    told.no_money += 1
                    break
                told.answered += 1
                told.price_micros += 1000 * PRICE_MICROS
                if chance.random() < 0.5:
                    cost = round(PRICE_MICROS * chance.uniform(0.5, 1.0))
                    os.write(file, b"%d %d\n" % (clock.now_ms(), cost))
            await asyncio.sleep(0.1)


def _held(grants: list[tuple[Grant, int]], hold: int) -> bool:
    """Hold the money of one answer, whether it wins or not."""
    for at, (grant, left) in enumerate(grants):
        if left >= hold:
            grants[at] = (grant, left - hold)
            return True
    return False


if __name__ == "__main__":
    if sys.argv[1] == "controller":
        control(*sys.argv[2:])
    else:
        asyncio.run(spend(*sys.argv[2:]))
