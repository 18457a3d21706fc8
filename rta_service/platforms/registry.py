"""The one table of platforms: a new one is a folder and a line here."""

from collections.abc import Callable
from typing import Final

from rta_service.domain.platform import PlatformInfo
from rta_service.domain.tracking import MacroTable
from rta_service.platforms.base import Adapter, Facts, HeldAdapter, load_info, load_macros
from rta_service.platforms.json.adapter import JsonAdapter
from rta_service.platforms.tencent.adapter import TencentAdapter

ADAPTERS: Final[dict[str, Callable[[PlatformInfo], Adapter]]] = {
    "json": JsonAdapter,
    "tencent": TencentAdapter,
}


def load_adapters() -> dict[str, Adapter]:
    """Build every platform's adapter, held to its facts, by platform name."""
    return {name: _load(name, build) for name, build in ADAPTERS.items()}


def load_tables() -> dict[str, MacroTable]:
    """Read every platform's macros of tracking links, by platform name."""
    return {name: load_macros(f"rta_service.platforms.{name}") for name in ADAPTERS}


def _load(name: str, build: Callable[[PlatformInfo], Adapter]) -> Adapter:
    info = load_info(f"rta_service.platforms.{name}")
    return HeldAdapter(build(info), Facts(info))
