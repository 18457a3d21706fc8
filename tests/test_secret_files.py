"""Secrets given, made once, and kept to ourselves."""

import stat
from pathlib import Path

import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.secret_files import obtain


def test_a_given_secret_is_used_and_nothing_is_written(tmp_path: Path) -> None:
    assert obtain("x" * 16, tmp_path / "a" / "pepper", "RTA_PEPPER") == b"x" * 16
    assert not (tmp_path / "a").exists()


def test_a_secret_is_made_once_and_only_we_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "pepper"

    first, second = (obtain(None, path, "RTA_PEPPER") for _ in range(2))

    assert first == second
    assert len(first) == 48
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["pepper"]


def test_a_secret_too_short_to_hide_anything_is_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="RTA_PEPPER: a secret needs at least 16") as refused:
        obtain("hunter2", tmp_path / "pepper", "RTA_PEPPER")

    assert "hunter2" not in str(refused.value)
