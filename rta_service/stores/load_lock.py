"""Only one loader at a time, also when one of them died or slept."""

from types import TracebackType
from typing import Final, Self

from rta_service.domain.errors import InvalidInput
from rta_service.stores.keys import load_name
from rta_service.stores.redis import AdminClient

_RENEW: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""

_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
"""


class LoadLock:
    """A lock of limited life in the store; its token grows with every loader (a fencing token).

    A loader renews it before each step, and so finds out before it writes on that it slept too
    long and another has taken over.
    """

    def __init__(self, client: AdminClient, namespace: str, life_ms: int) -> None:
        self.token = 0
        self._client = client
        self._name = load_name(namespace, "lock")
        self._fence = load_name(namespace, "fence")
        self._life_ms = life_ms

    def __enter__(self) -> Self:
        """Take the lock; raises InvalidInput while another loader has it."""
        self.token = int(self._client.incr(self._fence))
        if not self._client.set(self._name, self.token, nx=True, px=self._life_ms):
            raise InvalidInput(
                "another loader is at work; wait for it, or if it died, try again in "
                f"{self._life_ms // 1000} s",
                self._name,
            )
        return self

    def renew(self) -> None:
        """Live on; raises InvalidInput when another loader took over."""
        if not self._client.eval(_RENEW, 1, self._name, self.token, self._life_ms):
            raise InvalidInput(
                "this loader slept too long and lost its lock; load again", self._name
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the lock back, if it is still ours."""
        self._client.eval(_RELEASE, 1, self._name, self.token)
