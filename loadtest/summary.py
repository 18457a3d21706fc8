"""What a locust run comes to: failure share, exit code, a few lines to read."""

from pathlib import Path

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One platform's part of a run; milliseconds."""

    name: str
    requests: int
    failures: int
    p50_ms: float
    p99_ms: float


class Summary(msgspec.Struct, frozen=True):
    """A whole run, written by locustfile.py and read by run.py."""

    rows: list[Row]
    reasons: dict[str, int]
    """Why answers failed, and how many did."""
    max_failure_share: float

    @property
    def requests(self) -> int:
        """All requests of the run."""
        return sum(row.requests for row in self.rows)

    @property
    def failure_share(self) -> float:
        """Late, wrong or missing answers over all; a run without requests failed whole."""
        failures = sum(row.failures for row in self.rows)
        return failures / self.requests if self.requests else 1.0

    @property
    def exit_code(self) -> int:
        """0 when the platforms would have kept us, else 1."""
        return 0 if self.failure_share <= self.max_failure_share else 1

    def write(self, path: Path) -> None:
        """Write the summary for run.py."""
        path.write_bytes(msgspec.json.encode(self))

    def lines(self) -> list[str]:
        """Say it in words."""
        found = [
            f"{row.name:<22} {row.requests:>8} requests  {row.failures:>6} failed  "
            f"p50 {row.p50_ms:.0f} ms  p99 {row.p99_ms:.0f} ms"
            for row in self.rows
        ]
        found += [f"  {number} x {reason}" for reason, number in sorted(self.reasons.items())]
        word = "kept" if self.exit_code == 0 else "broken"
        return [
            *found,
            f"failure share {self.failure_share:.2%}, limit {self.max_failure_share:.2%}: {word}",
        ]


def read_summary(path: Path) -> Summary:
    """Read what locustfile.py wrote; raises FileNotFoundError when locust never got there."""
    return msgspec.json.decode(path.read_bytes(), type=Summary)
