"""Feeds a ledger life after life, killed at any instant, each beginning with the first event.

Run as a program: `killed_attribution.py FOLDER LIVES`, where FOLDER holds events.msgpack. The last
life is let live to its end.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import msgspec

from rta_service.device_key import KeyRing
from rta_service.domain.clock import SystemClock
from rta_service.domain.happening import Happening
from rta_service.domain.sealing import Sealer
from rta_service.domain.tag import TagCodec
from rta_service.feedback.attributing import Attributing
from rta_service.feedback.consuming import Taken
from rta_service.nearline.attribution.facts import FactReader
from rta_service.nearline.attribution.goals import AttributionRules
from rta_service.stores.ledger import Ledger

BATCH = 7
LONGEST_S = 0.08


def live(folder: Path, entries: list[Taken]) -> None:
    reader = FactReader(KeyRing(b"pepper", b"experiment"), TagCodec(b"event key").read)
    with Ledger(folder / "ledger.sqlite") as ledger:
        handler = Attributing(ledger, reader, AttributionRules(), SystemClock())
        for first in range(0, len(entries), BATCH):
            handler.handle(entries[first : first + BATCH])


def live_and_be_killed(folder: Path, entries: list[Taken], after_s: float) -> None:
    pid = os.fork()
    if pid == 0:
        live(folder, entries)
        os._exit(0)
    time.sleep(after_s)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status):
        sys.exit("a life failed")


def main(folder: Path, lives: int) -> None:
    events = msgspec.msgpack.decode((folder / "events.msgpack").read_bytes(), type=list[Happening])
    sealer = Sealer(b"event key")
    entries = [Taken(f"1-{at}", event, sealer.seal(event)) for at, event in enumerate(events)]
    chance = random.Random(lives)
    for _ in range(lives):
        live_and_be_killed(folder, entries, chance.uniform(0, LONGEST_S))
    live(folder, entries)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
