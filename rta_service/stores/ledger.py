"""The ledger of attribution: one SQLite file, changed in transactions that survive any kill."""

from pathlib import Path


class Ledger:
    """The ledger in a file; for one writer at a time, and any number of readers."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def close(self) -> None:
        """Let go of the file."""
