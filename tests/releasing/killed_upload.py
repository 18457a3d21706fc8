"""A process that uploads a bundle and kills itself on the way.

Run as `python killed_upload.py STORE_URL NAMESPACE MODELS_FOLDER SOURCE AT_MS WHEN`; WHEN is
`step:<name>` or `event:<n>`, the n-th time that something in the models folder is made, written,
renamed or removed.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from rta_service.releasing.shelf import Shelf
from rta_service.releasing.uploading import UploadFacts, UploadRules, accept_upload
from rta_service.scoring.signature import TrustedKey, key_id, public_of
from rta_service.stores.redis import admin_client

KEY = public_of(bytes(range(32)))
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.chmod"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(*arguments: str) -> None:
    url, namespace, folder, source, at_ms, when = arguments
    kind, _, where = when.partition(":")
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if not (event in CHANGES or writes) or not str(arguments[0]).startswith(folder):
            return
        seen += 1
        if kind == "event" and seen == int(where):
            die()

    def step(name: str) -> None:
        if kind == "step" and name == where:
            die()

    shelf = Shelf(admin_client(url), namespace, Path(folder), (), "00000000")
    rules = UploadRules({key_id(KEY): TrustedKey("growth", KEY)})
    sys.addaudithook(watch)
    accept_upload(shelf, Path(source), UploadFacts("ann", int(at_ms)), rules, step)


if __name__ == "__main__":
    main(*sys.argv[1:])
