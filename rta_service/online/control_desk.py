"""What a worker knows of cost control: orders, money, and what it did; asked for every answer.

The request's way only reads and counts here. `ControlExchange` brings orders and money, and takes away
what was counted, beside it.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

import msgspec

from rta_service.device_key import KeyRing
from rta_service.domain.clock import Clock
from rta_service.domain.control_order import Grant, Order, Usage
from rta_service.domain.decision import Prediction
from rta_service.domain.request import AdRequest
from rta_service.domain.user import ValueTier
from rta_service.online.live_release import BoundStrategy
from rta_service.online.person import Person
from rta_service.online.score import Scores
from rta_service.online.steering import Account, Case, Offer, Steering
from rta_service.online.steering_layout import lay_out

_DRAWS: Final = float(1 << 48)
_TIERS: Final = len(ValueTier)
_IDLE_S: Final = 600.0
"""After this long without a question no money is wanted for a unit."""


class Exchanged(Protocol):
    """What a worker gets for what it tells."""

    @property
    def orders(self) -> dict[str, Order] | None:
        """Orders by unit; None where they are as they were."""

    @property
    def grants(self) -> list[Grant]:
        """Money that may be held now."""

    @property
    def now_ms(self) -> int:
        """The store's clock, by which grants end."""


class Report(NamedTuple):
    """What a worker did since the last report, and the money that it wants, in micros by unit."""

    usages: list[Usage]
    wants: dict[str, int]


class ControlDesk:
    """Orders laid out by unit, with their accounts; of one event loop, but anybody may look.

    One that does not count is for showing: it tells nothing and holds no money.
    """

    def __init__(self, keys: KeyRing, clock: Clock, *, counts: bool = True) -> None:
        self.orders: Mapping[str, Order] = {}
        """As they were read last."""
        self._clock = clock
        self._counts = counts
        self._ahead_ms = 0
        self._laid_out: dict[str, Steering] = {}
        self._accounts: dict[str, Account] = {}
        self._asked_s: dict[str, float] = {}
        self._reported_s = clock.monotonic_s()
        # half the time of making a keyed hash anew for each request
        self._draws = blake2b(digest_size=6, key=keys.experiment_key, person=b"rta-explore")

    @property
    def now_ms(self) -> int:
        """The time by the store's clock, by which orders age."""
        return self._clock.now_ms() + self._ahead_ms

    def begin(self) -> None:
        """Let go of money that has run out; at the beginning of each batch."""
        if self._accounts:
            now_s = self._clock.monotonic_s()
            for account in self._accounts.values():
                account.purse.expire(now_s)

    def sit(self, request: AdRequest, person: Person, *, counts: bool = True) -> "Sitting":
        """Lay out what control needs to know of a request; the same one always draws the same."""
        hasher = self._draws.copy()
        name = request.request_id or f"{person.key} at {self._clock.now_ms()}"
        hasher.update(f"{request.platform.name}:{name}".encode())
        draw = int.from_bytes(hasher.digest(), "little") / _DRAWS
        cell = person.stage * _TIERS + person.tier
        counts = counts and self._counts and not request.is_test
        return Sitting(self, Case(request, cell, draw, counts))

    def steering(self, bound: BoundStrategy) -> Steering:
        """Give the order of a bound strategy's unit, laid out."""
        found = self._laid_out.get(bound.unit)
        if found is not None and found.strategy is bound.strategy:
            return found
        account = self._account(bound.unit)
        order = self.orders.get(bound.unit)
        found = lay_out(bound.strategy, order, account, self.now_ms)
        self._laid_out[bound.unit] = found
        return found

    def report(self) -> Report:
        """Give what was done since the last report, and forget it; say what money is wanted."""
        now_s = self._clock.monotonic_s()
        since_s, self._reported_s = now_s - self._reported_s, now_s
        usages: list[Usage] = []
        wants: dict[str, int] = {}
        for unit_id, account in self._accounts.items():
            used = account.usage
            if used != (fresh := Usage(unit_id)):
                usages.append(used)
                account.usage = fresh
                self._asked_s[unit_id] = now_s
            if wanted := self._wanted(account, unit_id, (now_s, since_s)):
                wants[unit_id] = wanted
        return Report(usages, wants)

    def take(self, exchanged: Exchanged, asked_s: float) -> None:
        """Take what an exchange brought that was asked for at a monotonic instant.

        Money runs out by what the store says it has left, counted from before it was asked: early
        rather than late.
        """
        self._ahead_ms = exchanged.now_ms - self._clock.now_ms()
        for grant in exchanged.grants:
            left_s = (grant.until_ms - exchanged.now_ms) / 1000.0
            self._account(grant.unit_id).purse.put(grant.micros, asked_s + left_s)
        if exchanged.orders is not None:
            self.orders = exchanged.orders
            self._laid_out = {}

    def look(self, orders: Mapping[str, Order]) -> None:
        """Take orders only to show them."""
        self.orders = orders
        self._laid_out = {}

    def refresh(self) -> None:
        """Forget what was laid out for a time that is over."""
        now_ms = self.now_ms
        self._laid_out = {u: one for u, one in self._laid_out.items() if now_ms < one.until_ms}

    def _account(self, unit_id: str) -> Account:
        found = self._accounts.get(unit_id)
        if found is None:
            self._asked_s[unit_id] = self._clock.monotonic_s()
            # another thread may look for the first time just now
            found = self._accounts.setdefault(unit_id, Account(Usage(unit_id)))
        return found

    def _wanted(self, account: Account, unit_id: str, now: tuple[float, float]) -> int:
        """Say how much money to ask for: at least one click's, while anybody asks."""
        order = self.orders.get(unit_id)
        if order is None or order.hold_rate <= 0.0:
            return 0
        if now[0] - self._asked_s[unit_id] > _IDLE_S:
            return 0
        first = order.block.goals[0]
        click = max(order.block.neutral_micros, first.target_micros * first.mean_prediction, 0.0)
        return account.purse.wants(*now, round(click * order.hold_rate))


class Sitting(msgspec.Struct, frozen=True, gc=False):
    """One request before the desk."""

    desk: ControlDesk
    case: Case

    def price(self, bound: BoundStrategy, scores: Scores, pcvr: Prediction) -> Offer:
        """Price a wanted device for a strategy under control, or say why there is no bid."""
        return self.desk.steering(bound).price(bound, scores, pcvr, self.case)
