from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from rta_service.domain.access import Actor, Role
from rta_service.domain.errors import InvalidInput, UnknownName
from rta_service.stores.token_file import TokenFile, add_token, read_tokens, remove_token

NOW_MS = 1_760_000_000_000
DAY_MS = 86_400_000
CONTROL_TOKEN = "the-control-token-of-the-tests"


class Watch:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = NOW_MS

    def now_ms(self) -> int:
        return self.now

    def monotonic_s(self) -> float:
        return self.now / 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "control_tokens.toml"


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def doors(path: Path, watch: Watch, said: list[str]) -> TokenFile:
    return TokenFile(path, CONTROL_TOKEN, watch, said.append)


def test_a_token_is_known_by_name_and_role_from_the_moment_it_is_added(
    path: Path, doors: TokenFile
) -> None:
    before = doors.actor_of("rta_whatever")
    token = add_token(path, "ci", Role.OPERATOR, NOW_MS)

    assert before is None
    assert doors.actor_of(token) == Actor("ci", Role.OPERATOR)
    assert doors.actor_of(token[:-1]) is None
    assert doors.actor_of("") is None


def test_the_control_token_is_an_admin_without_any_file(doors: TokenFile) -> None:
    assert doors.actor_of(CONTROL_TOKEN) == Actor("control", Role.ADMIN)


def test_a_removed_token_opens_nothing_any_more(path: Path, doors: TokenFile) -> None:
    token = add_token(path, "ci", Role.OPERATOR, NOW_MS)
    other = add_token(path, "dash", Role.VIEWER, NOW_MS)
    assert doors.actor_of(token)

    remove_token(path, "ci")

    assert doors.actor_of(token) is None
    assert doors.actor_of(other) == Actor("dash", Role.VIEWER)


def test_removing_the_file_removes_its_tokens(path: Path, doors: TokenFile) -> None:
    token = add_token(path, "ci", Role.OPERATOR, NOW_MS)
    assert doors.actor_of(token)

    path.unlink()

    assert doors.actor_of(token) is None


def test_a_token_ends_at_its_instant(path: Path, doors: TokenFile, watch: Watch) -> None:
    token = add_token(path, "ci", Role.OPERATOR, NOW_MS, days=2)

    watch.now = NOW_MS + 2 * DAY_MS - 1
    last = doors.actor_of(token)
    watch.now = NOW_MS + 2 * DAY_MS

    assert last == Actor("ci", Role.OPERATOR)
    assert doors.actor_of(token) is None


def test_the_file_holds_no_token_and_only_its_owner_may_read_it(path: Path) -> None:
    token = add_token(path, "ci", Role.OPERATOR, NOW_MS)

    text = path.read_text()

    assert token not in text
    assert token.removeprefix("rta_") not in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.glob(".*toml.[0-9]*")) == []


def test_what_is_written_is_what_is_read(path: Path) -> None:
    add_token(path, "ci", Role.OPERATOR, NOW_MS)
    add_token(path, "dash", Role.VIEWER, NOW_MS, days=0.5)

    first, second = read_tokens(path)

    made = datetime.fromtimestamp(NOW_MS // 1000, UTC)
    assert (first.name, first.role, first.created_at, first.expires_at) == (
        "ci",
        Role.OPERATOR,
        made,
        None,
    )
    assert (second.role, second.expires_at) == (Role.VIEWER, made + timedelta(hours=12))


@pytest.mark.parametrize(
    "damage",
    [
        "token = 3",
        "[[token]]\nname = 'x'",
        "[[token",
        "\x00",
        "[[token]]\nname='a'\nrole='root'\nsha256='"
        + "0" * 64
        + "'\ncreated_at=2026-01-01T00:00:00Z",
        "[[token]]\nname='a'\nrole='viewer'\nsha256='"
        + "0" * 63
        + "'\ncreated_at=2026-01-01T00:00:00Z",
        "[[token]]\nname='a'\nrole='viewer'\nsha256='"
        + "0" * 64
        + "'\ncreated_at=2026-01-01T00:00:00",
        "[[token]]\nname='control'\nrole='viewer'\nsha256='"
        + "0" * 64
        + "'\ncreated_at=2026-01-01T00:00:00Z",
    ],
)
def test_a_broken_file_leaves_the_last_good_tokens_and_is_reported_once(
    path: Path, doors: TokenFile, said: list[str], damage: str
) -> None:
    token = add_token(path, "ci", Role.OPERATOR, NOW_MS)
    assert doors.actor_of(token)

    path.write_text(damage)

    assert doors.actor_of(token) == Actor("ci", Role.OPERATOR)
    assert doors.actor_of(CONTROL_TOKEN)
    assert len(said) == 1
    assert str(path) in said[0]


def test_a_mended_file_counts_again(path: Path, doors: TokenFile) -> None:
    token = add_token(path, "ci", Role.OPERATOR, NOW_MS)
    good = path.read_text()
    path.write_text("broken")
    doors.actor_of(token)

    path.write_text(good.replace("operator", "viewer"))

    assert doors.actor_of(token) == Actor("ci", Role.VIEWER)


def test_a_file_that_others_may_write_is_not_trusted(
    path: Path, doors: TokenFile, said: list[str]
) -> None:
    token = add_token(path, "ci", Role.OPERATOR, NOW_MS)
    path.chmod(0o620)

    assert doors.actor_of(token) is None
    assert "chmod" in said[0]


def test_two_tokens_never_share_a_name_or_a_hash(path: Path) -> None:
    add_token(path, "ci", Role.OPERATOR, NOW_MS)
    text = path.read_text()

    with pytest.raises(InvalidInput, match="rta tokens remove ci"):
        add_token(path, "ci", Role.VIEWER, NOW_MS)
    for changed in (text.replace('"ci"', '"other"'), text.replace('sha256 = "', 'sha256 = "a')):
        path.write_text(text + changed)
        with pytest.raises(InvalidInput, match=str(path)):
            read_tokens(path)


@pytest.mark.parametrize("name", ["", "control", "autopilot", "cli:me", "A", "a b", "ä", "x" * 65])
def test_names_that_would_mislead_the_audit_log_are_refused(path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="NAME"):
        add_token(path, name, Role.VIEWER, NOW_MS)
    assert not path.exists()


def test_a_token_can_not_outlive_the_calendar(path: Path) -> None:
    with pytest.raises(InvalidInput, match="--days"):
        add_token(path, "ci", Role.VIEWER, NOW_MS, days=1e9)


def test_removing_an_unknown_token_says_so(path: Path) -> None:
    with pytest.raises(UnknownName, match="rta tokens list"):
        remove_token(path, "nobody")


@given(st.text(max_size=80))
def test_no_other_text_is_a_token(text: str) -> None:
    doors = TokenFile(Path("no-such-file.toml"), CONTROL_TOKEN, Watch(), print)

    assert (doors.actor_of(text) is None) == (text != CONTROL_TOKEN)
