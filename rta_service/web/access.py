"""Who may use which route: tokens tell the role, every route declares the one it needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol

from fastapi import Depends, Header, Request, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from rta_service.domain.access import Actor, Role
from rta_service.domain.errors import NotAllowed, StartupError

MAX_BODY_BYTES: Final = 256 * 1024
"""Of a request in JSON, unless its route says otherwise."""

_MARK: Final = "x-access"


class Tokens(Protocol):
    """Knows who holds which token."""

    def actor_of(self, token: str) -> Actor | None:
        """Tell who sent a token, None for an unknown or expired one; in constant time."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a route needs from whoever calls it."""

    role: Role
    change: bool = False
    """Whether it changes something: such routes take Idempotency-Key and If-Match."""
    streams: bool = False
    """Whether the route reads its body itself, piece by piece."""
    max_body_bytes: int = MAX_BODY_BYTES


def reads(role: Role = Role.VIEWER, max_body_bytes: int = MAX_BODY_BYTES) -> dict[str, Any]:
    """Declare a route that changes nothing; for a router's `get(path, **reads())`."""
    return _declared(Needs(role, max_body_bytes=max_body_bytes))


def changes(
    role: Role = Role.OPERATOR, max_body_bytes: int = MAX_BODY_BYTES, *, streams: bool = False
) -> dict[str, Any]:
    """Declare a route that changes something; for a router's `post(path, **changes())`."""
    declared = _declared(Needs(role, change=True, streams=streams, max_body_bytes=max_body_bytes))
    return {**declared, "dependencies": [Depends(_change_headers)]}


def needs_of(route: APIRoute) -> Needs:
    """Give what a route declared; raises StartupError for one that forgot, so that none is open."""
    declared = (route.openapi_extra or {}).get(_MARK)
    if declared is None:
        raise StartupError(f"the route {route.path} declares no role: use reads() or changes()")
    return Needs(**{**declared, "role": Role(declared["role"])})


def admitted(tokens: Tokens, headers: Mapping[str, str], needed: Role) -> Actor:
    """Tell who calls; raises 401 for an unknown caller, NotAllowed for a too small role."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    who = tokens.actor_of(token.strip()) if scheme.lower() == "bearer" else None
    if who is None:
        message = "unknown or expired token; send one as Authorization: Bearer <token>"
        raise HTTPException(401, message, {"WWW-Authenticate": "Bearer"})
    if not who.role.covers(needed):
        raise NotAllowed(f"{who.name} has the role {who.role}; this needs the role {needed}")
    return who


def _caller(request: Request) -> Actor:
    who: Actor = request.state.who
    return who


Caller = Annotated[Actor, Depends(_caller)]
"""For a route's arguments: who calls it."""


def _decided_on(request: Request) -> str:
    release_id: str = request.state.decided_on
    return release_id


DecidedOn = Annotated[str, Depends(_decided_on)]
"""For a route's arguments: the release that If-Match named, empty if it named none."""

BEARER: Final = Security(HTTPBearer(auto_error=False, description="a control token"))
"""For the API pages only: the gate has checked the token before."""


def _change_headers(
    _key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="A retry under the same key within a day gets the first answer again.",
        ),
    ] = None,
    _match: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description="The ETag this was decided on; 412 if another release decides by now.",
        ),
    ] = None,
) -> None:
    """Show the headers of changes in the API pages; the gate reads them."""


def _declared(needs: Needs) -> dict[str, Any]:
    facts = {name: getattr(needs, name) for name in Needs.__slots__}
    return {"openapi_extra": {_MARK: {**facts, "role": needs.role.value}}}
