"""Work of the control process beside its answers: again and again, within a share of one core."""

import threading
from collections.abc import Callable
from typing import NamedTuple, Self


class Pace(NamedTuple):
    """How often, and how much of one core at most."""

    period_s: float
    cpu_share: float
    cpu_s: Callable[[], float]
    """CPU time of the calling thread."""


class Background:
    """A thread that works, sleeps off what it spent, and ends when it is told to."""

    def __init__(
        self,
        name: str,
        work: Callable[[], object],
        pace: Pace,
        failed: Callable[[Exception | None], None],
    ) -> None:
        """`failed` is told what a turn raised, or None for one that went well; work goes on."""
        self._work = work
        self._pace = pace
        self._failed = failed
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(timeout=10.0)

    def _run(self) -> None:
        while not self._ending.wait(self._turn()):
            pass

    def _turn(self) -> float:
        """Work once and say how long to sleep."""
        started = self._pace.cpu_s()
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - the last resort of this thread; told
            self._failed(error)
        else:
            self._failed(None)
        spent = self._pace.cpu_s() - started
        return max(self._pace.period_s, spent / self._pace.cpu_share - spent)
