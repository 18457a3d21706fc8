"""A platform's question in our own words."""

import msgspec

from rta_service.domain.device import DeviceId, OperatingSystem, Placement
from rta_service.domain.platform import PlatformInfo


class AdRequest(msgspec.Struct, frozen=True, gc=False):
    """One request of one platform, already checked for form; ids are still as sent."""

    request_id: str
    platform: PlatformInfo
    ids: tuple[DeviceId, ...] = ()
    os: OperatingSystem = OperatingSystem.OTHER
    placement: Placement = Placement.NONE
    asked_strategies: tuple[str, ...] = ()
    """Strategy ids the platform asks about; empty means all that are bound to it."""
    bid_floor_micros: int = 0
    currency: str = ""
    """The currency of the floor, where the platform names one."""
    pctr: float | None = None
    is_ping: bool = False
    is_test: bool = False
