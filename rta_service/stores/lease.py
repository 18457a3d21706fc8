"""Who may do a work that only one process may do at a time, until it stops saying that it lives.

A lease is a promise of the store's clock to ours, so it ends for its holder before it ends in the
store. Work that was begun may still outlive it: whoever writes must notice another writer by itself.
"""

import secrets
from typing import Any, Final

from rta_service.domain.clock import Clock
from rta_service.domain.errors import StoreUnavailable
from rta_service.stores.keys import event_name
from rta_service.stores.lease_scripts import GIVE_BACK
from rta_service.stores.redis import AsyncClient, store_errors

LIFE_MS: Final = 5_000
"""How long nobody works after a holder's death; a holder renews three times in it."""
_SPARE: Final = 0.8
"""Of its life a holder believes in this much: clocks run at different speeds."""

_TAKE: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class Lease:
    """The right to one kind of work in a namespace; `is_mine` asks no store."""

    def __init__(
        self, client: AsyncClient, namespace: str, work: str, clock: Clock, life_ms: int = LIFE_MS
    ) -> None:
        self._client: Any = client  # its two kinds are annotated apart, and replies as anything
        self._name = event_name(namespace, f"lease:{work}")
        self._clock = clock
        self._life_ms = life_ms
        self._token = secrets.token_hex(8)
        self._mine_until_s = float("-inf")
        self._is_over = False

    def is_mine(self) -> bool:
        """Say whether nobody else can hold it at this instant."""
        return self._clock.monotonic_s() < self._mine_until_s

    @property
    def renew_every_s(self) -> float:
        """How long a holder, or who wants to be one, waits between two calls of `take`."""
        return self._life_ms / 3000

    async def take(self) -> bool:
        """Take it or live on, and say whether it is ours.

        Raises StoreUnavailable: what was ours then stays so until its time is up.
        """
        if self._is_over:
            return False
        asked_s = self._clock.monotonic_s()
        with store_errors("taking a lease"):
            taken = await self._client.eval(_TAKE, 1, self._name, self._token, self._life_ms)
        if int(taken) and not self._is_over:
            self._mine_until_s = asked_s + self._life_ms / 1000 * _SPARE
        else:
            self._mine_until_s = float("-inf")
        return self.is_mine()

    def let_go(self) -> None:
        """Stop for good, so that all work on it ends; the store keeps it until `give_back`."""
        self._is_over = True
        self._mine_until_s = float("-inf")

    async def give_back(self) -> None:
        """Let the next one begin at once; a store that does not answer lets it begin later.

        For good: this one does not take it again.
        """
        self.let_go()
        try:
            with store_errors("giving a lease back"):
                await self._client.eval(GIVE_BACK, 1, self._name, self._token)
        except StoreUnavailable:
            return
