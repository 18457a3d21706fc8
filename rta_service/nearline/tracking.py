"""Signed links under which platforms tell of exposures, clicks and wins.

    /track/<platform>/<event>?strategy=s1&k=<key>&sig=<signature>&ts_s=__CLICK_TIME__&...

The signature covers the version, platform, event and all that the link says itself; what the
platform fills in, it can't. So whoever knows a link could make up what is filled in: links are
secret, and where they can't be (a page shows them), let them `need` the tag, which we signed too.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, Protocol
from urllib.parse import quote, unquote_plus, urlencode

from rta_service.domain.errors import InvalidInput, UnknownName
from rta_service.domain.happening import Happening, LineRule, Rejection
from rta_service.domain.sealing import derived_key
from rta_service.domain.tag import strategy_mark
from rta_service.domain.tracking import (
    FILLED,
    IDS,
    INSTANTS,
    NOTICE,
    PLAIN,
    PRICES,
    SIGNED,
    MacroTable,
)
from rta_service.nearline.reading import ReadingRules, check_touch_cost, read_columns
from rta_service.nearline.row import RefusedError

MAX_QUERY_BYTES: Final = 8_192
_MAX_PARAMETERS: Final = 64
_VERSION: Final = "rta-track-1"
_SIGNATURE_BYTES: Final = 16
_DIGEST_BYTES: Final = 16
_KEY, _SIGNATURE = "k", "sig"
_MACRO: Final = re.compile(r"__[A-Z0-9_]+__|\$?\{\w+\}|%%\w+%%")
"""Macros as platforms write them; one that came back as it was says nothing."""
_DIGITS: Final = re.compile(r"[0-9]{1,15}")
_PRICE: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_KNOWN: Final = frozenset((*FILLED, *SIGNED, _KEY, _SIGNATURE))


class Decided(Protocol):
    """What is asked of a tag besides being ours."""

    @property
    def decided_ms(self) -> int:
        """When the decision was made, rounded down."""

    @property
    def strategy(self) -> int:
        """The mark of the strategy that it was for."""


ReadTag = Callable[[str], Decided | None]
"""Reads a tag that we wrote; None for any other."""


class LinkKeys:
    """The secrets that sign links: the first signs, all are believed, so that they can rotate."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        if not secrets:
            raise InvalidInput("links need at least one secret")
        self._keys = {
            derived_key(secret, b"rta-link-id", 4).hex(): derived_key(secret, b"rta-link", 32)
            for secret in secrets
        }
        self._first = next(iter(self._keys))

    def sign(self, text: str) -> tuple[str, str]:
        """Give the key's name and the signature, 32 hex digits."""
        return self._first, _signature(self._keys[self._first], text)

    def believes(self, key_id: str, signature: str, text: str) -> bool:
        """Tell whether one of the keys signed a text; in constant time for a known key."""
        key = self._keys.get(key_id)
        return key is not None and hmac.compare_digest(
            _signature(key, text).encode(), signature.encode()
        )


@dataclass(frozen=True, slots=True)
class Links:
    """Makes tracking links and reads what platforms send to them."""

    keys: LinkKeys
    tables: Mapping[str, MacroTable]
    """By platform."""
    read_tag: ReadTag

    def make(self, base_url: str, platform: str, event: str, says: Mapping[str, str]) -> str:
        """Make the link to enter at a platform; `says` holds parameters of SIGNED.

        Raises UnknownName and InvalidInput for what it can't say.
        """
        if platform not in self.tables:
            raise UnknownName(f"has no table of macros; known: {', '.join(self.tables)}", platform)
        table = self.tables[platform]
        if event not in table.events:
            raise UnknownName(f"is not told by {platform}: {', '.join(table.events)} are", event)
        macros = table.of(event)
        said = {name: value for name, value in says.items() if value}
        _check_said(said, macros)
        key_id, signature = self.keys.sign(_signed_text(platform, event, said))
        own = urlencode({**said, _KEY: key_id, _SIGNATURE: signature}, quote_via=quote)
        filled = "&".join(f"{name}={macro}" for name, macro in macros.items())
        return f"{base_url.rstrip('/')}/track/{platform}/{event}?{own}&{filled}"

    def read(
        self, platform: str, event: str, query: bytes, rules: ReadingRules
    ) -> Happening | Rejection:
        """Read a notice; never raises, whatever its link and query say.

        Copies of one notice get the same event id.
        """
        table = self.tables.get(platform)
        if table is None or event not in table.events:
            return Rejection("link", "there is no such link", LineRule.UNKNOWN_LINK)
        given = _parameters(query)
        if isinstance(given, Rejection):
            return given
        says = {name: given[name] for name in SIGNED if given.get(name)}
        text = _signed_text(platform, event, says)
        if not self.keys.believes(given.get(_KEY, ""), given.get(_SIGNATURE, ""), text):
            reason = "this service made no such link, or it was changed, or its key is gone"
            return Rejection("sig", reason, LineRule.BAD_SIGNATURE)
        return self._filled_in(_Notice(platform, event, says, _filled(given, table)), rules)

    def _filled_in(self, notice: "_Notice", rules: ReadingRules) -> Happening | Rejection:
        missing = set(notice.says.get("need", "").split(",")) - {"", *notice.filled}
        if missing:
            reason = "is needed by this link, and was not filled in"
            return Rejection(min(missing), reason, LineRule.NOT_FILLED_IN)
        try:
            happening = read_columns(notice.columns(), rules)
        except RefusedError as error:
            return error.rejection
        if isinstance(happening, Rejection):
            return notice.in_its_words(happening)
        return self.fault_of_tag(happening, rules) or happening

    def fault_of_tag(self, happening: Happening, rules: ReadingRules) -> Rejection | None:
        """Say why an event's tag can't be its own; None for one that can, or without a tag."""
        tag = self.read_tag(happening.tag) if happening.tag else None
        if happening.tag and tag is None:
            return Rejection("tag", "is none that this service gave", LineRule.BAD_TAG)
        if tag is not None and tag.decided_ms > happening.ts_ms + rules.max_ahead_ms:
            return Rejection("tag", "was given after this happened", LineRule.BAD_TAG)
        named = happening.strategy_id
        if tag is not None and named and tag.strategy != strategy_mark(named):
            reason = "was given for another strategy than the one that is named"
            return Rejection("tag", reason, LineRule.BAD_TAG)
        return None


@dataclass(frozen=True, slots=True)
class _Notice:
    """A notice whose signature is right."""

    platform: str
    event: str
    says: Mapping[str, str]
    filled: Mapping[str, str]

    def columns(self) -> dict[str, Any]:
        """Give it as the columns of a line."""
        ts_ms = self._ts_ms()
        said = {SIGNED[name]: value for name, value in self.says.items() if SIGNED[name]}
        plain = {PLAIN[name]: value for name, value in self.filled.items() if name in PLAIN}
        ids = [
            {"kind": IDS[name][0], "form": IDS[name][1], "value": self.filled[name]}
            for name in self._id_names()
        ]
        return {
            **said,
            **plain,
            "event_id": self._event_id(ts_ms),
            "event": self.event,
            "ts_ms": ts_ms,
            "channel": self.platform,
            "ids": ids,
            "cost_micros": self._cost_micros(),
        }

    def in_its_words(self, rejection: Rejection) -> Rejection:
        """Name the parameter where a column of an event is at fault."""
        parameters = {column: name for name, column in (SIGNED | PLAIN).items()}
        parameters |= {f"ids[{at}].value": name for at, name in enumerate(self._id_names())}
        return rejection._replace(field=parameters.get(rejection.field, rejection.field))

    def _id_names(self) -> list[str]:
        return [name for name in IDS if name in self.filled]

    def _ts_ms(self) -> int:
        for name, unit in INSTANTS.items():
            if name in self.filled:
                if not _DIGITS.fullmatch(self.filled[name]):
                    raise RefusedError(name, LineRule.BAD_TS, "is no whole number")
                return int(self.filled[name]) * unit
        reason = "is needed, else a copy sent a day later could not be told"
        raise RefusedError("ts_ms", LineRule.BAD_TS, reason)

    def _event_id(self, ts_ms: int) -> str:
        """Hash what names the notice, so that copies of it are one event.

        By the platform's own id of it, or the request's with whom and for what; else by everything
        that we read of it: so parameters added on the way make no new event.
        """
        if NOTICE in self.filled:
            named = {NOTICE: self.filled[NOTICE]}
        elif "request" in self.filled:
            about = {name: value for name, value in self.filled.items() if name in IDS}
            named = {**self.says, **about, "request": self.filled["request"]}
        else:
            named = {**self.says, **self.filled}
        text = urlencode(
            [("", self.platform), ("", self.event), ("", ts_ms), *sorted(named.items())]
        )
        return "track-" + hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()

    def _cost_micros(self) -> int:
        for name, (micros, bought) in PRICES.items():
            if name in self.filled:
                if not _PRICE.fullmatch(self.filled[name]):
                    raise RefusedError(name, LineRule.BAD_MONEY, "is no price")
                cost = Decimal(self.filled[name]) * micros / bought
                rounded = int(cost.to_integral_value(ROUND_HALF_UP))
                check_touch_cost(rounded, name)
                return rounded
        return 0


def _check_said(said: Mapping[str, str], macros: Mapping[str, str]) -> None:
    unknown = sorted(said.keys() - SIGNED)
    if unknown:
        raise UnknownName(f"is nothing a link can say; {', '.join(SIGNED)} are", unknown[0])
    needed = [name for name in said.get("need", "").split(",") if name]
    for name in needed:
        if name not in macros:
            raise UnknownName(f"is not filled in here; {', '.join(macros)} are", f"need {name}")


def _signature(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), "sha256")[:_SIGNATURE_BYTES].hex()


def _signed_text(platform: str, event: str, says: Mapping[str, str]) -> str:
    """Write what is signed so that no two links look alike in it."""
    return "\n".join((_VERSION, platform, event, urlencode(sorted(says.items()))))


def _parameters(query: bytes) -> dict[str, str] | Rejection:
    if len(query) > MAX_QUERY_BYTES:
        reason = f"a query has at most {MAX_QUERY_BYTES} bytes"
        return Rejection("link", reason, LineRule.LINE_TOO_LONG)
    try:
        parts = query.decode().split("&", _MAX_PARAMETERS)
        pairs = [tuple(map(_unquoted, part.partition("=")[::2])) for part in parts]
    except ValueError:
        return Rejection("link", "is no query in UTF-8", LineRule.MALFORMED_LINE)
    known = [(name, value) for name, value in pairs if name in _KNOWN]
    given = dict(known)
    if len(given) < len(known) or len(parts) > _MAX_PARAMETERS:
        reason = f"names a parameter twice, or more than {_MAX_PARAMETERS}"
        return Rejection("link", reason, LineRule.MALFORMED_LINE)
    return given


def _unquoted(text: str) -> str:
    """Decode a part of a query; a third of the time of `parse_qsl`, since few need it."""
    return unquote_plus(text, errors="strict") if "%" in text or "+" in text else text


def _filled(given: Mapping[str, str], table: MacroTable) -> dict[str, str]:
    """Leave out what the platform had nothing for."""
    return {
        name: value
        for name, value in given.items()
        if name in FILLED and value and value not in table.absent and not _MACRO.fullmatch(value)
    }
