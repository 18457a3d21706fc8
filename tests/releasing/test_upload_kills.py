"""An uploader killed at any moment: the version is wholly there or not at all, and a retry works."""

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rta_service.domain.clock import SystemClock
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.upload_stages import STAGES
from rta_service.releasing.uploading import UploadFacts, UploadRules, accept_upload
from rta_service.scoring.manifest import read_manifest
from rta_service.scoring.model_file import object_path, read_model
from rta_service.stores.model_folder import bundle_path, find_entry

MakeBundle = Callable[..., Path]

NOW_MS = SystemClock().now_ms()
HOUR_MS = 3_600_000
SCRIPT = Path(__file__).with_name("killed_upload.py")


@pytest.fixture
def upload(store_url: str, shelf: Shelf) -> Callable[[Path, str], tuple[int, str]]:
    """Uploads in a process of its own that dies `when`; gives its return code and its words."""

    def call(source: Path, when: str) -> tuple[int, str]:
        words = [store_url, shelf.namespace, shelf.models_folder, source, NOW_MS, when]
        command = [sys.executable, str(SCRIPT), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return call


Upload = Callable[[Path, str], tuple[int, str]]


def stands_whole_or_not_at_all(shelf: Shelf, source: Path, version: str) -> bool:
    """Say whether the version exists, once it is proved that all of it does."""
    entry = find_entry(shelf.models_folder, "register", version)
    if entry is None:
        return False
    sha256 = entry.ref.sha256
    manifest, _ = read_model(object_path(shelf.models_folder, sha256), sha256)
    assert manifest == read_manifest(source)
    kept = bundle_path(shelf.models_folder, entry.ref)
    assert {p.name: p.read_bytes() for p in kept.iterdir()} == {
        p.name: p.read_bytes() for p in source.iterdir()
    }
    return True


def a_retry_succeeds(shelf: Shelf, source: Path, rules: UploadRules, version: str) -> None:
    """Upload again hours later: accepted, and nothing is left of the killed one."""
    facts = UploadFacts("ann", NOW_MS + 2 * HOUR_MS)
    verdict = accept_upload(shelf, source, facts, rules)
    assert verdict.accepted, verdict.reason
    assert stands_whole_or_not_at_all(shelf, source, version)
    left = [p for p in shelf.models_folder.rglob("*") if p.name.startswith((".writing-", "trial-"))]
    assert left == []


@pytest.mark.parametrize(("name", "stands"), [("store", False), ("verdict", True)])
def test_a_kill_before_or_after_the_commit_leaves_nothing_or_the_version(
    name: str,
    *,
    stands: bool,
    shelf: Shelf,
    upload: Upload,
    a_bundle: MakeBundle,
    rules: UploadRules,
) -> None:
    source = a_bundle()

    code, said = upload(source, f"step:{name}")

    assert code == -signal.SIGKILL, said
    assert stands_whole_or_not_at_all(shelf, source, "v1") == stands
    a_retry_succeeds(shelf, source, rules, "v1")


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_a_kill_at_any_stage_or_change_of_the_folder_leaves_nothing_or_the_version(
    shelf: Shelf, upload: Upload, a_bundle: MakeBundle, rules: UploadRules
) -> None:
    steps = [f"step:{stage.name}" for stage in STAGES]
    seen = set()
    event = 0
    for number in itertools.count():
        event = number - len(steps) + 1
        when = f"event:{event}" if event > 0 else steps[number]
        source = a_bundle(version=f"v{number}")

        code, said = upload(source, when)

        if code == 0 and event > 0:
            break  # there is no such event any more: all were tried
        assert code == -signal.SIGKILL, f"{when}: {said}"
        seen.add(stands_whole_or_not_at_all(shelf, source, f"v{number}"))
        if number % 3 == 0:
            a_retry_succeeds(shelf, source, rules, f"v{number}")

    assert seen == {False, True}
    assert event > 25
