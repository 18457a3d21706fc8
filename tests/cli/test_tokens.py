"""`rta tokens`: made once, listed without themselves, taken away."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rta_service.cli import commands
from rta_service.cli.app import app as command_tree
from rta_service.domain.access import Actor, Role
from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import InvalidInput, UnknownName
from rta_service.stores.token_file import TokenFile

assert commands.tokens is not None  # importing it hangs the subcommands in

Rta = Callable[..., Any]


@pytest.fixture
def rta(tmp_path: Path) -> Rta:
    """Give a function that runs `rta tokens` on a data folder of its own."""

    def call(*words: object) -> Any:
        environment = {"RTA_DATA_DIR": str(tmp_path), "RTA_TOKENS_FILE": None}
        arguments = ["tokens", *map(str, words)]
        result = CliRunner().invoke(command_tree, arguments, env=environment)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_a_token_is_printed_alone_and_opens_the_port(rta: Rta, tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "control_tokens.toml"
    doors = TokenFile(path, "the-control-token", SystemClock(), print)

    made = rta("add", "dash", "--role", "viewer")

    token = made.stdout.strip()
    assert token.startswith("rta_")
    assert "kept nowhere" in made.stderr
    assert doors.actor_of(token) == Actor("dash", Role.VIEWER)


def test_tokens_are_listed_without_their_hashes(rta: Rta) -> None:
    made = json.loads(rta("add", "ci", "--role", "operator", "--days", 30, "--json").stdout)

    (listed,) = json.loads(rta("list", "--json").stdout)["tokens"]
    table = rta("list").stdout

    assert set(made) == {"token", "name", "role"}
    assert (listed["name"], listed["role"], listed["expired"]) == ("ci", "operator", False)
    assert "sha256" not in listed
    assert "ci" in table
    assert made["token"] not in table


def test_a_removed_token_is_gone(rta: Rta) -> None:
    rta("add", "ci", "--role", "operator")

    removed = json.loads(rta("remove", "ci", "--json").stdout)["removed"]

    assert removed["name"] == "ci"
    assert json.loads(rta("list", "--json").stdout) == {"tokens": []}
    with pytest.raises(UnknownName):
        rta("remove", "ci")
    rta("add", "ci", "--role", "viewer")
    assert "removed ci" in rta("remove", "ci").stdout


def test_a_used_name_and_an_unknown_role_are_refused(rta: Rta) -> None:
    rta("add", "ci", "--role", "operator")

    with pytest.raises(InvalidInput, match="remove it first"):
        rta("add", "ci", "--role", "admin")
    assert rta("add", "x", "--role", "root").exit_code == 2
    assert rta("add", "x").exit_code == 2
