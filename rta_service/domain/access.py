"""Who may do what: roles of growing reach, and the one who acts."""

from enum import StrEnum
from typing import Final

import msgspec


class Role(StrEnum):
    """What a token allows; each role may do all that those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        """Tell whether this role may do what needs another."""
        return _RANK[self] >= _RANK[needed]


_RANK: Final = {role: rank for rank, role in enumerate(Role)}


class Actor(msgspec.Struct, frozen=True):
    """Who asks: a token's name, `cli:<user of the host>`, or `autopilot`."""

    name: str
    role: Role
