"""A process that moves versions and is killed on the way, again and again.

Run as `python killed_act.py STORE_URL NAMESPACE MODELS_FOLDER`. For each line on standard input,
`ACTION AT_MS N`, it forks a process that acts and is killed before its N-th store command; it
answers with that process' return code (-9 for a kill, 0 if there were fewer commands).
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from rta_service.domain.access import Actor, Role
from rta_service.domain.command import Command
from rta_service.domain.rollout import Action
from rta_service.platforms.registry import load_adapters
from rta_service.releasing.rollouts import Rollouts
from rta_service.releasing.shelf import Shelf
from rta_service.stores.redis import admin_client


class Mortal:
    """A store's client whose owner dies before a certain command."""

    def __init__(self, client: Any, last: int) -> None:
        self._client = client
        self._left = last

    def __getattr__(self, name: str) -> Any:
        command = getattr(self._client, name)

        def call(*words: Any, **options: Any) -> Any:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
            return command(*words, **options)

        return call


class Standing:
    """A clock that stands."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_s(self) -> float:
        return self._now_ms / 1000


def act(place: tuple[str, str, str], action: Action, at_ms: int, last: int) -> None:
    url, namespace, folder = place
    client: Any = Mortal(admin_client(url), last)
    platforms = tuple(adapter.info for adapter in load_adapters().values())
    shelf = Shelf(client, namespace, Path(folder), platforms, "00000000")
    rollouts = Rollouts(lambda: shelf, Standing(at_ms))
    models = (("trade", "v2"),) if action is Action.LIVE else ()
    command = Command(action, models, skip=action is Action.LIVE, why="a test")
    rollouts.act(command, Actor("cli:ann", Role.ADMIN))


def main(url: str, namespace: str, folder: str) -> None:
    for line in sys.stdin:
        action, at_ms, last = line.split()
        child = os.fork()
        if not child:
            act((url, namespace, folder), Action(action), int(at_ms), int(last))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - what the parent waits for


if __name__ == "__main__":
    main(*sys.argv[1:])
