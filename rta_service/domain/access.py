"""Who may do what: roles of growing reach, and the one who acts."""

from enum import StrEnum
from typing import Final

import msgspec


class Role(StrEnum):
    """What a token allows; each role may do all that those before it may.

    But the sender's: whoever sends events may do nothing else, and of the others only an admin may.
    """

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    SENDER = "sender"

    def covers(self, needed: "Role") -> bool:
        """Tell whether this role may do what needs another."""
        return self is needed or self is Role.ADMIN or _RANK[self] > _RANK[needed] > 0


_RANK: Final = {Role.SENDER: 0, Role.VIEWER: 1, Role.OPERATOR: 2, Role.ADMIN: 3}
"""Whoever stands higher covers all below but the sender, who covers nobody."""


class Actor(msgspec.Struct, frozen=True):
    """Who asks: a token's name, `cli:<user of the host>`, or `autopilot`."""

    name: str
    role: Role
