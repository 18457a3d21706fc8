"""Events to send: lines of made-up devices, and batches of them."""

from typing import Final

import msgspec
import numpy as np

from rta_service.domain.clock import SystemClock
from rta_service.domain.events import Event
from rta_service.simulation.load import PreparedRequest

BATCH: Final = 500
_WORDS: Final = (
    *[Event.AD_EXPOSURE] * 6,
    *[Event.AD_CLICK] * 2,
    *[Event.LAUNCH] * 8,
    *[Event.VIEW] * 3,
    Event.PAY,
)


def lines_of(first: int, count: int, now_ms: int) -> list[bytes]:
    """Write events of 100,000 devices, mostly launches and ads, of the last hour."""
    rng = np.random.default_rng(first)
    devices, words = rng.integers(0, 100_000, count), rng.integers(0, len(_WORDS), count)
    ages = rng.integers(0, 3_600_000, count)
    return [
        msgspec.json.encode(
            {
                "event_id": f"bench-{first + place}",
                "event": _WORDS[words[place]],
                "ts_ms": int(now_ms - ages[place]),
                "device_id": f"bench-device-{devices[place]}",
                "id_kind": "oaid",
                "channel": "json",
                "strategy_id": "new_users",
                "cents": 1_000 if _WORDS[words[place]] is Event.PAY else 0,
            }
        )
        for place in range(count)
    ]


def requests_of(first: int, count: int, token: str) -> list[PreparedRequest]:
    """Gather lines into batches, as an advertiser's app sends them."""
    now_ms = SystemClock().now_ms()
    return [
        PreparedRequest(
            "/v1/events",
            b"\n".join(lines_of(at, BATCH, now_ms)),
            "application/x-ndjson",
            f"Bearer {token}",
        )
        for at in range(first, first + count, BATCH)
    ]
