"""How large a sound model may be, and the list of what an unsound one breaks."""

from dataclasses import dataclass
from typing import Final

from rta_service.domain.errors import Fault

_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes far above what is useful and far below what hurts; counted before memory is taken."""

    max_bytes: int = 64_000_000
    max_trees: int = 5_000
    max_leaves: int = 4_096
    """Of one tree."""
    max_nodes: int = 2_000_000
    """Inner nodes of all trees."""
    max_features: int = 1_024
    max_category: int = 65_535
    """The largest category a bitset may name; a bitset of it has 2,048 words."""
    max_cat_words: int = 2_000_000
    """Of all trees."""
    max_line_bytes: int = 1_000_000
    max_logit: float = 10_000.0
    """Of binary: P is 0 or 1 to the last bit beyond 800, more would only hide an error."""
    max_exponent: float = 700.0
    """Of poisson, gamma and tweedie, whose exp overflows at 709.8."""
    max_value: float = 1e15
    """Of regression: money in micros stays an exact integer below 9e15."""
    max_faults: int = 50

    @property
    def max_lines(self) -> int:
        """How many lines a text within the other limits can have."""
        return 24 * self.max_trees + self.max_features + 2_000


class FaultList:
    """Gathers faults up to a bound, so that a hostile text can't make a long report."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: list[Fault] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, line: int, tree: int, field: str, reason: str) -> None:
        """Note a fault; `line` counts from 1, 0 where none is to blame."""
        if len(self._found) < self._most:
            self._found.append(Fault(line, tree, field, reason))

    def in_order(self) -> tuple[Fault, ...]:
        """Give them in the order of the file."""
        return tuple(sorted(self._found))


def shown(text: bytes) -> str:
    """Quote bytes of a hostile file for a message: short, and of plain ASCII only."""
    more = "..." if len(text) > _SHOWN else ""
    return ascii(text[:_SHOWN])[1:] + more
