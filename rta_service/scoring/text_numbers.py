"""Strict numbers: what LightGBM writes and nothing else, converted in one go.

JSON's grammar is almost LightGBM's: no leading plus or zero, no hex, no underscore, no bare point,
no nan, no inf; and msgspec reads it at 200 MB/s, correctly rounded. What JSON allows beyond it
(blanks, brackets, a large E) is kept out by the alphabet.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

_SPACE: Final = 0x20
_LONG_EXPONENT: Final = re.compile(rb"e[+-]?[0-9]{4}")
"""A double's has three digits at most; JSON would read 1e-9999 as 0."""


@dataclass(frozen=True, slots=True)
class NumberRule:
    """One of the two kinds of numbers."""

    kind: str
    dtype: type[np.float64] | type[np.int64]
    alphabet: bytes
    longest: int
    """Characters of one number."""
    pattern: re.Pattern[bytes]
    decoder: msgspec.json.Decoder[Any]


INTEGERS: Final = NumberRule(
    kind="an integer",
    dtype=np.int64,
    alphabet=b"-0123456789 ",
    longest=11,
    pattern=re.compile(rb"0|-?[1-9][0-9]*"),
    decoder=msgspec.json.Decoder(list[int]),
)
DECIMALS: Final = NumberRule(
    kind="a finite number",
    dtype=np.float64,
    alphabet=b"+-.0123456789e ",
    longest=32,
    pattern=re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?"),
    decoder=msgspec.json.Decoder(list[float]),
)


def read_numbers(values: Sequence[bytes], rule: NumberRule) -> NDArray[Any] | None:
    """Convert lines of numbers, one space apart, to one array; None if any is not one."""
    joined = b" ".join([value for value in values if value])
    if not joined:
        return np.empty(0, dtype=rule.dtype)
    if joined.translate(None, rule.alphabet) or _longest(joined) > rule.longest:
        return None
    if _LONG_EXPONENT.search(joined):
        return None
    try:
        numbers = rule.decoder.decode(b"[" + joined.replace(b" ", b",") + b"]")
    except msgspec.MsgspecError:
        return None
    return np.array(numbers, dtype=rule.dtype)


def _longest(joined: bytes) -> int:
    """Measure the longest number, before any is converted: digits cost more than linearly."""
    spaces = np.flatnonzero(np.frombuffer(joined, dtype=np.uint8) == _SPACE)
    ends = np.concatenate(([-1], spaces, [len(joined)]))
    return int(np.diff(ends).max()) - 1


def first_wrong(value: bytes, rule: NumberRule) -> tuple[int, bytes]:
    """Find the place and the text of a line's first number that is none."""
    for place, token in enumerate(value.split(b" ")):
        plain = len(token) <= rule.longest and rule.pattern.fullmatch(token)
        if not plain or not math.isfinite(float(token)):
            return place, token
    return 0, value


def read_integer(value: bytes) -> int | None:
    """Read one integer of at most 10 digits; None if it is none."""
    plain = len(value) <= INTEGERS.longest and INTEGERS.pattern.fullmatch(value)
    return int(value) if plain else None
