"""Who may use the control port: a file of token hashes, re-read when it changes.

A token is 256 random bits, so there is nothing to guess and a plain SHA-256 is the right hash:
slow hashes protect what people choose themselves. No token is kept anywhere.

[[token]]
name = "dashboards"
role = "viewer"
sha256 = "<64 hex digits>"
created_at = 2026-10-12T08:30:00Z
expires_at = 2027-01-10T08:30:00Z   # may be left out: never
"""

import fcntl
import os
import re
import secrets
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Annotated, Final

import msgspec

from rta_service.domain.access import Actor, Role
from rta_service.domain.clock import Clock
from rta_service.domain.errors import InvalidInput, UnknownName

CONTROL: Final = "control"
"""The name of whoever sends RTA_CONTROL_TOKEN; an admin."""

RESERVED: Final = frozenset({CONTROL, "autopilot"})
"""Names that the audit log uses for others."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_OTHERS_WRITE: Final = 0o022
_PREFIX: Final = "rta_"
"""So that scanners for leaked secrets can find ours."""


class TokenEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One token's facts, without the token."""

    name: str
    role: Role
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    created_at: datetime
    expires_at: datetime | None = None

    def expired(self, now_ms: int) -> bool:
        """Tell whether the token is over."""
        return self.expires_at is not None and now_ms >= self.expires_at.timestamp() * 1000


class _File(msgspec.Struct, forbid_unknown_fields=True):
    token: tuple[TokenEntry, ...] = ()


def read_tokens(path: Path) -> tuple[TokenEntry, ...]:
    """Read a tokens file, none where there is no file; raises InvalidInput naming what is wrong."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            found = msgspec.convert(tomllib.load(file), _File).token
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.MsgspecError) as error:
        raise InvalidInput(f"not a tokens file ({error})", str(path)) from error
    if mode & _OTHERS_WRITE:
        raise InvalidInput("others may write it: chmod go-w it", str(path))
    _check(found, path)
    return found


def _check(entries: tuple[TokenEntry, ...], path: Path) -> None:
    for entry in entries:
        check_name(entry.name, str(path))
        for moment in (entry.created_at, entry.expires_at):
            if moment is not None and moment.tzinfo is None:
                raise InvalidInput(f"token {entry.name}: times need a zone, such as Z", str(path))
    for what in ("name", "sha256"):
        if len({getattr(entry, what) for entry in entries}) < len(entries):
            raise InvalidInput(f"two tokens have the same {what}", str(path))


def check_name(name: str, place: str) -> None:
    """Raise InvalidInput for a name that no token may have."""
    if name in RESERVED or not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} can't be a token's name: write 1 to 64 lower-case letters, digits, '_', '.'"
            f" or '-', and none of {', '.join(sorted(RESERVED))}",
            place,
        )


def add_token(path: Path, name: str, role: Role, now_ms: int, days: float | None = None) -> str:
    """Add a token and give its text, which is kept nowhere; raises InvalidInput for a used name."""
    check_name(name, "NAME")
    token = _PREFIX + secrets.token_urlsafe(32)
    created = _instant(now_ms)
    expires = None if days is None else _instant(now_ms + round(days * 86_400_000))
    entry = TokenEntry(name, role, sha256(token.encode()).hexdigest(), created, expires)
    with _locked(path):
        entries = read_tokens(path)
        if any(known.name == name for known in entries):
            raise InvalidInput(f"exists; remove it first (rta tokens remove {name})", name)
        _write(path, [*entries, entry])
    return token


def remove_token(path: Path, name: str) -> TokenEntry:
    """Take a token away; raises UnknownName."""
    with _locked(path):
        entries = read_tokens(path)
        gone = [entry for entry in entries if entry.name == name]
        if not gone:
            raise UnknownName("no such token; see rta tokens list", name)
        _write(path, [entry for entry in entries if entry.name != name])
    return gone[0]


def _instant(moment_ms: int) -> datetime:
    try:
        return datetime.fromtimestamp(moment_ms // 1000, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInput("lies beyond the year 9999", "--days") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one command at a time change the file."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, entries: Iterable[TokenEntry]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    with temporary.open("w", encoding="utf-8") as file:
        file.write("# Written by `rta tokens`. Only hashes: a lost token can't be shown again.\n")
        file.writelines(map(_toml, entries))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _toml(entry: TokenEntry) -> str:
    lines = ["", "[[token]]", f'name = "{entry.name}"', f'role = "{entry.role}"']
    lines += [f'sha256 = "{entry.sha256}"', f"created_at = {entry.created_at.isoformat()}"]
    if entry.expires_at is not None:
        lines.append(f"expires_at = {entry.expires_at.isoformat()}")
    return "\n".join(lines) + "\n"


class TokenFile:
    """Tells who sent a token; a changed file counts at once, a broken one leaves the last good."""

    def __init__(
        self, path: Path, control_token: str, clock: Clock, report: Callable[[str], None]
    ) -> None:
        self._path = path
        self._clock = clock
        self._report = report
        digest = sha256(control_token.encode()).hexdigest()
        self._control = TokenEntry(CONTROL, Role.ADMIN, digest, _instant(0))
        self._entries: tuple[TokenEntry, ...] = (self._control,)
        self._seen: tuple[int, ...] | None = ()
        self._refresh()

    def actor_of(self, token: str) -> Actor | None:
        """Tell who sent a token, None for an unknown or expired one.

        Every entry is compared in constant time, without an early end, so how long the answer
        takes says nothing about any hash.
        """
        self._refresh()
        sent = sha256(token.encode()).hexdigest()
        found: TokenEntry | None = None
        for entry in self._entries:
            found = entry if compare_digest(sent, entry.sha256) else found
        if found is None or found.expired(self._clock.now_ms()):
            return None
        return Actor(found.name, found.role)

    def _refresh(self) -> None:
        seen = self._stamp()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._entries = (self._control, *read_tokens(self._path))
        except InvalidInput as error:
            self._report(f"{error}; the tokens of before go on")

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode
