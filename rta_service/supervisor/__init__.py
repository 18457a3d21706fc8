"""One supervisor over all processes of `rta serve`: start, watch, restart, drain."""

from rta_service.supervisor.child import EXIT_CONFIG, ChildSpec
from rta_service.supervisor.lifeline import tell_ready, watch_parent
from rta_service.supervisor.listener import bind_listener
from rta_service.supervisor.service import Supervisor
from rta_service.supervisor.store_keeper import Guard
from rta_service.supervisor.surroundings import Observer, Patience, Surroundings

__all__ = [
    "EXIT_CONFIG",
    "ChildSpec",
    "Guard",
    "Observer",
    "Patience",
    "Supervisor",
    "Surroundings",
    "bind_listener",
    "tell_ready",
    "watch_parent",
]
