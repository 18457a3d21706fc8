"""Damaged and malicious LightGBM texts, to try a model registry with.

Each is made from a sound text by one edit of a named kind; same text and seed, same mutants. Half
of those that change a tree's length get their `tree_sizes` put right again, so that the size does
not give away what only a deeper check should find.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

_DIGITS: Final = b"0123456789"
_LONG_LINE: Final = 1_100_000
_CUT: Final = 64
_NEAR: Final = 256
_LONG_EVERY: Final = 97
"""A line of a megabyte is made only this often: it is slow to make, not to refuse."""

_LISTS: Final = (
    *("leaf_value", "threshold", "left_child", "right_child", "split_feature", "decision_type"),
    *("leaf_count", "internal_count", "split_gain", "cat_threshold", "cat_boundaries"),
)
_COUNTS: Final = (
    *("num_leaves", "num_cat", "num_class", "num_tree_per_iteration", "max_feature_idx"),
    *("tree_sizes", "cat_boundaries"),
)
_CHILDREN: Final = ("left_child", "right_child")
_CLASSES: Final = ("num_class", "num_tree_per_iteration")
_NOT_FINITE: Final = ("nan", "inf", "-inf", "NaN", "Infinity", "1e308", "-1e308", "1e999", "1e300")
_HUGE: Final = (
    *("0", "-1", "-2147483648", "2147483647", "2147483648", "4294967295", "1000000"),
    *("2000000000", "18446744073709551615", "9" * 400, "1e9"),
)
_GRAMMAR: Final = (
    *("0x10", "0x1p3", "1_0", "+1", "1.", ".5", "-", "--1", "1e", "1e+", "1E5", "1e5e5", "", " "),
    *("\t1", "1,2", "1;2", "00", "007", "-0x1", "1f", "1d", "abc", "true", "\u0661", "\uff11"),
    *("1\x0b", "1\r", "0b1", "1e-9999", "1" * 400, "0." + "0" * 99),
)

_NUMBERS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "child_out_of_range": (_CHILDREN, ("9999999", "-99999999", "-2147483648", "4096", "-4097")),
    "huge_count": (_COUNTS, _HUGE),
    "not_finite": (("leaf_value", "threshold", "leaf_weight", "split_gain"), _NOT_FINITE),
    "class_count": (_CLASSES, ("0", "2", "3", "7", "1000000", "-1")),
    "feature_out_of_bounds": (("split_feature",), ("99999", "-5", "-1", "1024", "2147483647")),
    "decision_type": (
        ("decision_type",),
        ("12", "16", "3", "7", "13", "-1", "127", "255", "1", "9"),
    ),
    "category_bounds": (
        ("cat_boundaries",),
        ("0", "-1", "1", "2", "500000000", "2147483647", "99"),
    ),
    "category_index": (("threshold",), ("99999", "-1", "0.5", "1", "2", "1e9")),
    "category_words": (("cat_threshold",), ("0", "-1", "4294967295", "4294967296", "1.5")),
    "fewer_features": (("max_feature_idx",), ("0", "1", "2", "3")),
    "tree_number": (("Tree",), ("99", "-1", "", "0", "1", "x")),
    "linear_tree": (("is_linear",), ("1", "2", "")),
    "shrinkage": (("shrinkage",), ("0", "-0.1", "nan", "inf", "")),
    "feature_names": (("feature_names",), ("", '"', "a b", "a=b", "\u202e")),
    "number_grammar": (_LISTS, _GRAMMAR),
}
"""Kinds that put one of some numbers in the place of one in a line with one of some keys."""

_VALUES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "other_version": ("version", ("v3", "v99", "v5", "", "4", "v4 ", "v2")),
    "other_objective": (
        "objective",
        (
            *("regression", "poisson", "multiclass num_class:3", "binary", "binary sigmoid:-1"),
            *("binary sigmoid:0", "binary sigmoid:nan", "binary sigmoid:1e9", "lambdarank", ""),
            *("regression sqrt", "cross_entropy", "custom", "quantile", "multiclassova"),
        ),
    ),
}
"""Kinds that put one of some values in the place of a whole line's."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A text that differs from its origin by one edit."""

    kind: str
    data: bytes


class _Text:
    """A sound text, taken apart for edits."""

    def __init__(self, data: bytes, chance: np.random.Generator) -> None:
        self.data = data
        self.lines = data.split(b"\n")
        self.chance = chance
        self._places: dict[str, list[int]] = {}
        for place, line in enumerate(self.lines):
            key, _, value = line.partition(b"=")
            if value:
                self._places.setdefault(key.decode(), []).append(place)

    def below(self, end: int) -> int:
        """Choose from 0 to end - 1."""
        return int(self.chance.integers(0, max(end, 1)))

    def pick(self, among: tuple[str, ...]) -> str:
        """Choose one."""
        return among[self.below(len(among))]

    def with_numbers(self, key: str, change: Callable[[list[bytes]], None]) -> bytes:
        """Change the numbers of some line with this key; the same text if there is none."""
        places = self._places.get(key, [])
        if not places:
            return self.data
        place = places[self.below(len(places))]
        numbers = self.lines[place][len(key) + 1 :].split(b" ")
        change(numbers)
        line = f"{key}=".encode() + b" ".join(numbers)
        return self.with_lines(place, place + 1, [line])

    def with_lines(self, start: int, end: int, lines: list[bytes]) -> bytes:
        """Put other lines in the place of some; half of the time sizes are put right."""
        data = b"\n".join([*self.lines[:start], *lines, *self.lines[end:]])
        return resize(data) if self.below(2) else data


def resize(data: bytes) -> bytes:
    """Rewrite `tree_sizes` to the sizes that the trees of a text have."""
    lines = data.split(b"\n")
    starts = [i for i, line in enumerate(lines) if line.startswith(b"Tree=")]
    place = next((i for i, line in enumerate(lines) if line.startswith(b"tree_sizes=")), None)
    if place is None or not starts or b"end of trees" not in lines:
        return data
    ends = [*starts[1:], lines.index(b"end of trees")]
    sizes = [
        sum(len(line) + 1 for line in lines[start:end])
        for start, end in zip(starts, ends, strict=True)
    ]
    lines[place] = b"tree_sizes=" + b" ".join(str(size).encode() for size in sizes)
    return b"\n".join(lines)


def _bit_flip(text: _Text) -> bytes:
    data = bytearray(text.data)
    data[text.below(len(data))] ^= 1 << text.below(8)
    return bytes(data)


def _digit_edit(text: _Text) -> bytes:
    """Change one digit, near a place chosen anywhere: such a text is often still sound."""
    start = text.below(len(text.data))
    near = range(start, min(start + _NEAR, len(text.data)))
    places = [place for place in near if text.data[place] in _DIGITS]
    data = bytearray(text.data)
    if places:
        data[places[text.below(len(places))]] = _DIGITS[text.below(len(_DIGITS))]
    return bytes(data)


def _truncation(text: _Text) -> bytes:
    return text.data[: _CUT * text.below(len(text.data) // _CUT + 1)]


def _swapped_lines(text: _Text) -> bytes:
    one, other = sorted((text.below(len(text.lines)), text.below(len(text.lines))))
    middle = text.lines[one + 1 : other]
    return text.with_lines(one, other + 1, [text.lines[other], *middle, text.lines[one]])


def _deleted_line(text: _Text) -> bytes:
    place = text.below(len(text.lines))
    return text.with_lines(place, place + 1, [])


def _duplicated_line(text: _Text) -> bytes:
    place = text.below(len(text.lines))
    return text.with_lines(place, place, [text.lines[place]])


def _cyclic_children(text: _Text) -> bytes:
    """Point a child back to its own or an earlier node."""

    def change(children: list[bytes]) -> None:
        node = text.below(len(children))
        children[node] = str(text.below(node + 1)).encode()

    return text.with_numbers(text.pick(_CHILDREN), change)


def _shared_child(text: _Text) -> bytes:
    """Give two parents the same child."""

    def change(children: list[bytes]) -> None:
        children[text.below(len(children))] = children[text.below(len(children))]

    return text.with_numbers(text.pick(_CHILDREN), change)


def _all_leaves(text: _Text) -> bytes:
    """Give all leaves of a tree one wild value: bids at the limit for everyone."""

    def change(leaves: list[bytes]) -> None:
        leaves[:] = [text.pick(_NOT_FINITE).encode()] * len(leaves)

    return text.with_numbers("leaf_value", change)


def _short_array(text: _Text) -> bytes:
    def change(numbers: list[bytes]) -> None:
        del numbers[text.below(len(numbers)) :]

    return text.with_numbers(text.pick(_LISTS), change)


def _long_array(text: _Text) -> bytes:
    def change(numbers: list[bytes]) -> None:
        numbers += [numbers[0]] * (1 + text.below(100))

    return text.with_numbers(text.pick(_LISTS), change)


def _tree_sizes(text: _Text) -> bytes:
    def change(sizes: list[bytes]) -> None:
        place = text.below(len(sizes))
        sizes[place] = str(int(sizes[place]) + (-1, 1, -100, 64)[text.below(4)]).encode()

    return text.with_numbers("tree_sizes", change)


def _no_trees(text: _Text) -> bytes:
    start, end = text.data.find(b"Tree=0\n"), text.data.find(b"end of trees")
    bare = _Text(text.data[:start] + text.data[end:], text.chance)
    sizes = text.pick(("", "0", "244")).encode()

    def change(numbers: list[bytes]) -> None:
        numbers[:] = [sizes]

    return bare.with_numbers("tree_sizes", change)


def _junk(text: _Text) -> bytes:
    junk = text.chance.bytes(1 + text.below(512))
    at = text.below(len(text.data))
    return text.data[:at] + junk + text.data[at:] if text.below(4) else junk


def _inserted(text: _Text, data: bytes) -> bytes:
    at = text.below(len(text.data))
    return text.data[:at] + data + text.data[at + text.below(2) :]


def _nul(text: _Text) -> bytes:
    return _inserted(text, b"\0")


def _non_ascii(text: _Text) -> bytes:
    odd = (b"\xff", b"\xc3\xa9", b"\x80", b"\xe2\x80\xae", b"\x7f", b"\x1b")
    return _inserted(text, odd[text.below(len(odd))])


def _long_line(text: _Text) -> bytes:
    place = text.below(len(text.lines))
    long = text.lines[place] + text.pick(("1", " 1", "x")).encode() * _LONG_LINE
    return text.with_lines(place, place + 1, [long])


_EDITS: Final[dict[str, Callable[[_Text], bytes]]] = {
    function.__name__.removeprefix("_"): function
    for function in (
        *(_bit_flip, _digit_edit, _truncation, _swapped_lines, _deleted_line, _duplicated_line),
        *(_cyclic_children, _shared_child, _all_leaves, _short_array, _long_array, _tree_sizes),
        *(_no_trees, _junk, _nul, _non_ascii, _long_line),
    )
}
_OFTEN: Final = ("bit_flip", "digit_edit", "truncation", "digit_edit", "number_grammar")
_TURNS: Final = (*(kind for kind in _EDITS if kind != "long_line"), *_NUMBERS, *_VALUES, *_OFTEN)


def mutants(text: bytes, seed: int, count: int) -> Iterator[Mutant]:
    """Make `count` mutants of a sound text, all kinds in turn; each differs from the text."""
    source = _Text(text, np.random.default_rng(seed))
    made = turn = 0
    while made < count:
        kind = _TURNS[turn % len(_TURNS)] if turn % _LONG_EVERY else "long_line"
        turn += 1
        data = _mutate(source, kind)
        if data != text:
            made += 1
            yield Mutant(kind, data)


def _mutate(text: _Text, kind: str) -> bytes:
    if kind in _EDITS:
        return _EDITS[kind](text)
    if kind in _VALUES:
        key, values = _VALUES[kind]
        return text.with_numbers(
            key, lambda old: old.__setitem__(slice(None), [_one(text, values)])
        )
    keys, numbers = _NUMBERS[kind]

    def change(old: list[bytes]) -> None:
        old[text.below(len(old))] = _one(text, numbers)

    return text.with_numbers(text.pick(keys), change)


def _one(text: _Text, among: tuple[str, ...]) -> bytes:
    return text.pick(among).encode()


def truncations(text: bytes, step: int = _CUT) -> Iterator[Mutant]:
    """Cut a text off at every `step` bytes."""
    for end in range(0, len(text), step):
        yield Mutant("truncation", text[:end])
