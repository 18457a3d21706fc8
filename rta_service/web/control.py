"""The control app: all that a growth team and whoever is on call may do over HTTP."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline

from rta_service import __version__
from rta_service.platforms.base import Adapter
from rta_service.web import problems
from rta_service.web.gate import Gate
from rta_service.web.insight_routes import Explain, Exposition, insight_routes
from rta_service.web.model_routes import ModelDesk, model_routes
from rta_service.web.release_routes import ReleaseDesk, release_routes
from rta_service.web.rollout_routes import RolloutDesk, approval_routes, rollout_routes
from rta_service.web.upload_routes import UploadDesk, UploadLimits, upload_routes

_DESCRIPTION = """\
Models, rollouts, releases, explanations and metrics.

Send `Authorization: Bearer <token>`; make tokens with `rta tokens add`. Each route names the
smallest role that may use it as `x-access` in the OpenAPI document. Refusals are problems as of
RFC 9457. Changes take `Idempotency-Key` and `If-Match`.
"""


class VersionDesk(ModelDesk, RolloutDesk, Protocol):
    """What the control port may do with models' versions."""


@dataclass(frozen=True, slots=True)
class Desks:
    """Whom the control port asks to do the work."""

    releases: ReleaseDesk
    versions: VersionDesk
    uploads: UploadDesk[Any]
    upload_limits: UploadLimits
    explain: Explain
    exposition: Exposition


def control_app(
    gate: Gate,
    desks: Desks,
    adapters: Mapping[str, Adapter],
    more: Sequence[Callable[[Gate], APIRouter]] = (),
) -> FastAPI:
    """Build the control port; everything but /livez and the API pages stands behind the gate.

    `more` are makers of further routes. Raises StartupError for a route that declares no role.
    """
    app: FastAPI = FastAPIOffline(
        title="rta-service control",
        version=__version__,
        description=_DESCRIPTION,
        redirect_slashes=False,
        telemetry={"tracing": False},
    )
    problems.install(app)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        """Tell that this process answers."""
        return {"status": "alive"}

    app.include_router(release_routes(gate, desks.releases, sorted(adapters)))
    app.include_router(model_routes(gate, desks.versions))
    app.include_router(upload_routes(gate, desks.uploads, desks.upload_limits))
    app.include_router(rollout_routes(gate, desks.versions))
    app.include_router(approval_routes(gate, desks.versions))
    app.include_router(insight_routes(gate, adapters, desks.explain, desks.exposition))
    for make in more:
        app.include_router(make(gate))
    return app
