"""Whether an answer is what its platform would accept, within the platform's time.

Imports no locust, so tests can use it.
"""

from typing import Final

from rta_service.demo.platforms import READERS

DEADLINE_S: Final = 0.060
"""The platforms' published budget; on a loopback all of it is ours."""


def verdict(platform: str, status: int, body: bytes, latency_s: float) -> str:
    """Say why a platform would count an answer as a failure; empty when it would not."""
    read = READERS[platform](status, body)
    if isinstance(read, str):
        return read if read.startswith("status") else f"invalid: {read}"
    if latency_s > DEADLINE_S:
        return f"later than {DEADLINE_S * 1000:.0f} ms"
    return ""
