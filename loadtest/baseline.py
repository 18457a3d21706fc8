"""The obvious version, to compare with: FastAPI, pydantic, one GET and two predictions a request.

Written as a good engineer would in an afternoon: typed models, an asyncio client with a pool, the
boosters loaded once and kept to one thread (with LightGBM's default it is slower still).
"""

import hashlib
import json
import os
from typing import Final, Literal

import lightgbm as lgb
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel
from redis import asyncio as redis

from rta_service.domain.device import OperatingSystem, Placement
from rta_service.features import FEATURE_NAMES

STORE_URL: Final = "BASELINE_STORE_URL"
REGISTER_MODEL: Final = "BASELINE_REGISTER_MODEL"
TRADE_MODEL: Final = "BASELINE_TRADE_MODEL"
"""The environment variables that `from_environment` reads."""

KEY_PREFIX: Final = "baseline:"
MEAN_TRADE_RATE: Final = 0.05
CACHE_S: Final = 3600


class DeviceId(BaseModel):
    """One id of a device."""

    kind: Literal["imei", "oaid", "idfa", "android_id", "caid", "mac", "gaid"]
    form: Literal["raw", "md5"]
    value: str
    version: str | None = None
    trusted: bool = True


class Device(BaseModel):
    """The device that would see the ad."""

    os: Literal["android", "ios", "harmony", "other"]
    ids: list[DeviceId]


class Context(BaseModel):
    """Where the ad would be shown."""

    placement: (
        Literal["splash", "app_store", "search_suggest", "search_result", "feed", "other"] | None
    ) = None
    bid_floor_micros: int = 0
    currency: str = ""
    pctr: float | None = None


class Question(BaseModel):
    """The json platform's request."""

    request_id: str
    device: Device
    strategy_ids: list[str] = []
    context: Context = Context()
    ping: bool = False
    test: bool = False


class Bid(BaseModel):
    """How strongly."""

    kind: str
    value: float


class StrategyAnswer(BaseModel):
    """One strategy's part of the answer."""

    strategy_id: str
    participate: bool
    reason: str
    bid: Bid | None
    pcvr: dict[str, float] | None


class Versions(BaseModel):
    """What decided."""

    release: str = "baseline"
    snapshot: str = "baseline"
    models: dict[str, str] = {}
    strategies: str = "baseline"


class Answer(BaseModel):
    """The json platform's answer."""

    request_id: str
    participate: bool
    reason: str
    strategies: list[StrategyAnswer]
    ttl_s: int = CACHE_S
    versions: Versions = Versions()


def create_app(store_url: str, register_model: str, trade_model: str) -> FastAPI:
    """Build the app around one store client and two boosters."""
    app = FastAPI()
    store = redis.Redis.from_url(store_url)
    register = lgb.Booster(model_file=register_model)
    trade = lgb.Booster(model_file=trade_model)

    @app.post("/rta/json")
    async def decide(question: Question) -> Answer:
        md5 = _first_md5(question.device)
        found = await store.get(KEY_PREFIX + md5) if md5 else None
        if found is None or question.ping:
            return _no(question, "ping" if question.ping else "unknown_device")
        row = _row(json.loads(found), question)
        register_rate = float(register.predict(row, num_threads=1)[0])
        trade_rate = float(trade.predict(row, num_threads=1)[0])
        weight = min(max(trade_rate / MEAN_TRADE_RATE, 0.2), 5.0)
        strategy = StrategyAnswer(
            strategy_id="trade",
            participate=True,
            reason="accepted",
            bid=Bid(kind="weight", value=weight),
            pcvr={"register": register_rate, "trade": trade_rate},
        )
        return Answer(
            request_id=question.request_id,
            participate=True,
            reason="accepted",
            strategies=[strategy],
        )

    return app


def _first_md5(device: Device) -> str | None:
    for one in device.ids:
        if one.trusted and one.value:
            if one.form == "md5":
                return one.value.lower()
            return hashlib.md5(one.value.encode(), usedforsecurity=False).hexdigest()
    return None


def _row(profile: dict[str, float | None], question: Question) -> np.ndarray:
    placement = question.context.placement
    profile["os"] = OperatingSystem[question.device.os.upper()]
    profile["placement"] = Placement[placement.upper()] if placement else Placement.NONE
    values = [profile[name] for name in FEATURE_NAMES]
    return np.array([[np.nan if value is None else value for value in values]], dtype=np.float64)


def _no(question: Question, reason: str) -> Answer:
    return Answer(request_id=question.request_id, participate=False, reason=reason, strategies=[])


def from_environment() -> FastAPI:
    """Build the app for `uvicorn --factory`."""
    return create_app(os.environ[STORE_URL], os.environ[REGISTER_MODEL], os.environ[TRADE_MODEL])
