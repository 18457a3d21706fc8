"""Clients of the Redis protocol, one for each way of using it.

Hot reads fail fast and never retry; what works beside them waits for seconds; loaders and commands
are patient. redis-py 8 by default waits 5 s and retries ten times, which a 60 ms deadline cannot
bear, so every profile says all of it explicitly.

redis://host:port/db   rediss://host:port/db (TLS)   unix:///path?db=0
redis+sentinel://host:port,host:port/service/db      redis+cluster://host:port,host:port
(rediss+sentinel and rediss+cluster for TLS). User and password stand before the hosts as usual;
the options ssl_* and client_name may follow after '?'.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.asyncio.connection import URL_QUERY_ARGUMENT_PARSERS
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import RedisClusterException
from redis.retry import Retry

from rta_service.domain.errors import InvalidInput, StoreUnavailable

AsyncClient = redis.asyncio.Redis | redis.asyncio.RedisCluster
AdminClient = redis.Redis | redis.RedisCluster

STORE_ERRORS: Final = (redis.RedisError, RedisClusterException, OSError, RuntimeError)
"""All that a client raises when the store fails; RuntimeError is uvloop's word for a closed
transport."""

_SCHEMES: Final = ("redis", "rediss", "unix")
_RESP: Final = 2
"""RESP2 everywhere: old servers and proxies speak it, and our replies gain nothing from RESP3."""

# redis-py has no annotations for these, so they are called as Any
_AsyncSentinel: Any = redis.asyncio.sentinel.Sentinel
_Sentinel: Any = redis.sentinel.Sentinel
_Node: Any = redis.cluster.ClusterNode

_TEXT_OPTIONS: Final = frozenset(
    {
        "client_name",
        "ssl_keyfile",
        "ssl_certfile",
        "ssl_cert_reqs",
        "ssl_ca_certs",
        "ssl_ca_data",
        "ssl_check_hostname",
        "ssl_min_version",
        "ssl_ciphers",
    }
)


@dataclass(frozen=True, slots=True)
class HotProfile:
    """Reads on the request's way: a reply later than `timeout_s` is worth nothing."""

    timeout_s: float = 0.02
    connect_timeout_s: float = 0.05
    max_connections: int = 16


@dataclass(frozen=True, slots=True)
class Address:
    """Where the store is and who we are there."""

    scheme: str
    """redis, rediss or unix: how one server is reached."""
    layout: str
    """single, sentinel or cluster."""
    hosts: tuple[tuple[str, int], ...]
    path: str = ""
    service: str = ""
    login: dict[str, Any] = field(default_factory=dict, repr=False)
    """db, username, password, ssl_* and client_name, as redis-py names them."""


def without_password(url: str) -> str:
    """Give a URL that may be shown."""
    return re.sub(r"(?<=://)[^@/]*@", "***@", re.sub(r"(?i)(password=)[^&]*", r"\1***", url))


def parse_url(url: str) -> Address:
    """Read a store URL; raises InvalidInput that names it without its password."""
    try:
        return _parse(urlsplit(url))
    except ValueError as error:
        raise InvalidInput(f"not a store URL: {error}", without_password(url)) from None


def _parse(parts: SplitResult) -> Address:
    scheme, _, layout = parts.scheme.partition("+")
    layout = layout or "single"
    if scheme not in _SCHEMES or layout not in ("single", "sentinel", "cluster"):
        raise ValueError(
            "write redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        )
    login = _options(parts.query)
    user, _, place = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    login |= {k: unquote(v) for k, v in (("username", name), ("password", password)) if v}
    if scheme == "unix":
        if layout != "single" or not parts.path:
            raise ValueError("a unix URL is one absolute path: unix:///run/store.sock")
        return Address(scheme, layout, (), path=unquote(parts.path), login=login)
    words = [unquote(word) for word in parts.path.split("/") if word]
    service = ""
    if layout == "sentinel":
        if not words:
            raise ValueError("Sentinel needs the service: redis+sentinel://host:port/service")
        service = words.pop(0)
    if words:
        login["db"] = _database(words, layout)
    port = 26_379 if layout == "sentinel" else 6_379
    return Address(scheme, layout, _hosts(place, port, layout), service=service, login=login)


def _hosts(place: str, port: int, layout: str) -> tuple[tuple[str, int], ...]:
    places = [urlsplit(f"//{one}") for one in place.split(",")]
    if not all(one.hostname for one in places):
        raise ValueError("a host is missing")
    if layout == "single" and len(places) > 1:
        raise ValueError("several hosts need redis+sentinel:// or redis+cluster://")
    return tuple((one.hostname or "", one.port or port) for one in places)


def _database(words: list[str], layout: str) -> int:
    if len(words) > 1 or not words[0].isdecimal():
        raise ValueError(f"{'/'.join(words)!r} is not a database number")
    if layout == "cluster":
        raise ValueError("a cluster has no numbered databases")
    return int(words[0])


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name == "db":
            options[name] = _database([value], "single")
        elif name in ("username", "password") or name in _TEXT_OPTIONS:
            parser: Callable[[str], object] = URL_QUERY_ARGUMENT_PARSERS.get(name, str)
            options[name] = parser(unquote(value))
        else:
            raise ValueError(f"unknown option {name!r} (time-outs and pools are settings)")
    return options


def hot_client(url: str, profile: HotProfile | None = None) -> AsyncClient:
    """Make the client of the request's way: tight time-outs, no retries, no health checks."""
    profile = profile or HotProfile()
    return _async_client(
        parse_url(url),
        {
            "socket_timeout": profile.timeout_s,
            "socket_connect_timeout": profile.connect_timeout_s,
            "max_connections": profile.max_connections,
        },
    )


def watch_client(url: str, timeout_s: float = 1.0, max_connections: int = 4) -> AsyncClient:
    """Make a client for work beside the request's way; reads that wait do so for less than this."""
    return _async_client(
        parse_url(url),
        {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "max_connections": max_connections,
        },
    )


def _async_client(address: Address, profile: dict[str, Any]) -> AsyncClient:
    options = {
        **address.login,
        **profile,
        "protocol": _RESP,
        "health_check_interval": 0,
        "driver_info": None,  # naming the library costs a round trip at every connect
    }
    if address.layout == "cluster":
        return redis.asyncio.RedisCluster(
            startup_nodes=[
                redis.asyncio.cluster.ClusterNode(host, port) for host, port in address.hosts
            ],
            # without a Retry of no retries the cluster client makes one of ten
            retry=AsyncRetry(NoBackoff(), 0),
            ssl=address.scheme == "rediss",
            **options,
        )
    if address.layout == "sentinel":
        sentinel = _AsyncSentinel(
            address.hosts, sentinel_kwargs=_sentinel_options(address, profile) | {"retry": None}
        )
        found: redis.asyncio.Redis = sentinel.master_for(
            address.service, ssl=address.scheme == "rediss", retry=None, **options
        )
        return found
    return redis.asyncio.Redis(**_server(address), retry=None, **options)  # type: ignore[arg-type]  # declared as Retry; None is what its own code tests for


def admin_client(url: str, timeout_s: float = 5.0) -> AdminClient:
    """Make the blocking client of loaders and commands: patient, with two retries."""
    address = parse_url(url)
    times = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    options = {**address.login, **times, "protocol": _RESP}
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 2)
    if address.layout == "cluster":
        with store_errors("connecting to the cluster"):
            return redis.RedisCluster(
                startup_nodes=[_Node(host, port) for host, port in address.hosts],
                retry=retry,
                ssl=address.scheme == "rediss",
                **options,
            )
    if address.layout == "sentinel":
        sentinel = _Sentinel(
            address.hosts, sentinel_kwargs=_sentinel_options(address, times) | {"retry": retry}
        )
        found: redis.Redis = sentinel.master_for(
            address.service, ssl=address.scheme == "rediss", retry=retry, **options
        )
        return found
    return redis.Redis(**_server(address), retry=retry, **options)


def _server(address: Address) -> dict[str, Any]:
    if address.scheme == "unix":
        return {"unix_socket_path": address.path}
    host, port = address.hosts[0]
    return {"host": host, "port": port, "ssl": address.scheme == "rediss"}


def _sentinel_options(address: Address, profile: dict[str, Any]) -> dict[str, Any]:
    """Give how sentinels are asked: with the profile's times and TLS, without our login."""
    times = {name: value for name, value in profile.items() if name.startswith("socket_")}
    tls = {name: value for name, value in address.login.items() if name.startswith("ssl_")}
    return times | tls | {"ssl": address.scheme == "rediss", "protocol": _RESP}


async def close(client: AsyncClient) -> None:
    """Close a client and, where Sentinel found its server, the connections to the sentinels."""
    await client.aclose()
    if isinstance(client, redis.asyncio.Redis):
        pool = client.connection_pool
        if isinstance(pool, redis.asyncio.sentinel.SentinelConnectionPool):
            await pool.sentinel_manager.aclose()


@contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turn whatever a client raises into StoreUnavailable that says what was being done.

    Until Python 3.12 `asyncio.wait_for`, through which the client writes, loses a cancellation that
    comes just when its work is done. Who was cancelled is cancelled at the end, at the latest: a
    loop around a store would go on for ever.
    """
    task = _current_task()
    asked_before = task.cancelling() if task else 0
    try:
        yield
    except STORE_ERRORS as error:
        raise StoreUnavailable(f"the store failed while {doing}: {error}") from error
    if task and task.cancelling() > asked_before:
        raise asyncio.CancelledError


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # a thread without a loop
        return None
