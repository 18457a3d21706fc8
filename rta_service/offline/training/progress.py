"""What a person at a terminal sees of one head's training: its stage, and how far it is."""

from collections.abc import Callable

from rich.progress import Progress


class HeadBars:
    """One bar that is reused for every stage of a head, and goes when the head is done."""

    def __init__(self, progress: Progress, head: str) -> None:
        self._progress = progress
        self._head = head
        self._task = progress.add_task(head, total=None)

    def stage(self, name: str, steps: int) -> Callable[[], None]:
        """Begin a stage of so many steps and give what moves it on by one."""
        description = f"  {self._head}: {name}"
        self._progress.reset(self._task, total=steps, description=description)
        return lambda: self._progress.advance(self._task)

    def done(self) -> None:
        """Take the bar away."""
        self._progress.remove_task(self._task)
