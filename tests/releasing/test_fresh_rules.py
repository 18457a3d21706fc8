"""Keys that are trusted, or no longer, while the service runs."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import InvalidInput
from rta_service.releasing.fresh_rules import FreshRules
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.uploading import UploadRules, Uploads
from rta_service.scoring.bundle import pack
from rta_service.scoring.signature import public_of, read_trusted, trusted_line

TEAMS_KEY = bytes(reversed(range(32)))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "model_keys"
    file.write_text("# none yet\n")
    return file


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def fresh(rules: UploadRules, keys: Path, said: list[str]) -> FreshRules:
    return FreshRules(lambda: replace(rules, trusted=read_trusted(keys)), said.append)


def test_a_key_counts_from_the_next_upload_on(
    shelf: Shelf, fresh: FreshRules, keys: Path, a_bundle: Any
) -> None:
    uploads = Uploads(lambda: shelf, fresh, SystemClock(), shelf.models_folder)
    tar = io.BytesIO()
    pack(a_bundle(key=TEAMS_KEY), tar)
    verdicts = []

    for line in ("", trusted_line("team", public_of(TEAMS_KEY))):
        keys.write_text(line)
        with uploads.receive() as received:
            received.write(tar.getvalue())
            verdicts.append(uploads.accept(received, "register", "token:ci", ""))

    assert "is not trusted here" in verdicts[0].reason
    assert (verdicts[1].accepted, verdicts[1].signed_by) == (True, "team")


def test_a_broken_file_leaves_the_keys_of_before_and_is_said_once(
    fresh: FreshRules, keys: Path, said: list[str]
) -> None:
    keys.write_text(trusted_line("team", public_of(TEAMS_KEY)))
    good = fresh().trusted

    keys.write_text("team not-a-key\n")
    meanwhile = [fresh().trusted, fresh().trusted]
    keys.write_text("")
    mended = fresh().trusted
    keys.write_text("team not-a-key\n")
    fresh()

    assert [one.name for one in good.values()] == ["team"]
    assert meanwhile == [good, good]
    assert mended == {}
    assert len(said) == 2
    assert "model_keys, line 1" in said[0]
    assert said[0].endswith("the keys of before go on")


def test_there_must_be_good_rules_to_begin_with(keys: Path, rules: UploadRules) -> None:
    keys.unlink()

    with pytest.raises(InvalidInput, match="can't be read"):
        FreshRules(lambda: replace(rules, trusted=read_trusted(keys)), print)
