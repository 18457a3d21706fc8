"""Activates a release and kills itself, as hard as the kernel would, at its n-th store call.

Run as `killed_activation.py URL NAMESPACE before|after N`; the release's JSON comes on standard input.
"""

import os
import signal
import sys
from typing import Any

import msgspec

from rta_service.domain.audit import AuditEntry
from rta_service.domain.release import Release
from rta_service.releasing.activation import Patience, switch
from rta_service.stores.redis import admin_client
from rta_service.stores.releases import ReleaseStore


class Doomed:
    """A client that ends the process before its n-th call, or right after it."""

    def __init__(self, client: Any, when: str, calls: int) -> None:
        self._client = client
        self._when = when
        self._left = calls

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self._left -= 1
            self._die("before")
            answer = getattr(self._client, name)(*arguments)
            self._die("after")
            return answer

        return call

    def _die(self, when: str) -> None:
        if self._left == 0 and self._when == when:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    url, namespace, when, calls = sys.argv[1:]
    client: Any = Doomed(admin_client(url), when, int(calls))
    release = msgspec.json.decode(sys.stdin.buffer.read(), type=Release)
    entry = AuditEntry(release.created_at_ms, "cli:ann", "live", "trade v2")
    switch(ReleaseStore(client, namespace), release, entry, Patience())
