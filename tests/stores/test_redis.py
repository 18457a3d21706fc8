import asyncio
import inspect
from contextlib import suppress
from typing import Any

import pytest
import redis
import redis.asyncio

from rta_service.domain.errors import InvalidInput, StoreUnavailable
from rta_service.stores.redis import (
    Address,
    HotProfile,
    admin_client,
    close,
    hot_client,
    parse_url,
    store_errors,
    watch_client,
    without_password,
)


def a_connection(client: object) -> Any:
    """A connection as the client's pool makes it, not yet connected."""
    assert isinstance(client, redis.Redis | redis.asyncio.Redis)
    pool: Any = client.connection_pool
    return pool.make_connection()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", Address("redis", "single", (("h", 6379),))),
        ("redis://h:1/2", Address("redis", "single", (("h", 1),), login={"db": 2})),
        (
            "rediss://u:p%40@h:1",
            Address("rediss", "single", (("h", 1),), login={"username": "u", "password": "p@"}),
        ),
        ("redis://:p@[::1]:1", Address("redis", "single", (("::1", 1),), login={"password": "p"})),
        ("unix:///a/b.sock?db=3", Address("unix", "single", (), "/a/b.sock", login={"db": 3})),
        (
            "redis+sentinel://a:1,b/main/4",
            Address("redis", "sentinel", (("a", 1), ("b", 26379)), "", "main", {"db": 4}),
        ),
        ("redis+cluster://a:1,b:2", Address("redis", "cluster", (("a", 1), ("b", 2)))),
        (
            "rediss://h?ssl_ca_certs=/ca&ssl_check_hostname=false",
            Address(
                "rediss",
                "single",
                (("h", 6379),),
                login={"ssl_ca_certs": "/ca", "ssl_check_hostname": False},
            ),
        ),
    ],
)
def test_a_url_says_where_the_store_is_and_who_we_are(url: str, address: Address) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://h",
        "redis://",
        "redis://h:port",
        "redis://h:99999",
        "redis://h/x",
        "redis://h/1/2",
        "redis://a,b",
        "redis+cluster://a/1",
        "redis+sentinel://a",
        "redis+other://a",
        "unix://",
        "unix+cluster:///a",
        "redis://h?socket_timeout=5",
    ],
)
def test_a_bad_url_is_named(url: str) -> None:
    with pytest.raises(InvalidInput, match="not a store URL") as caught:
        parse_url(url)

    assert caught.value.place == url


@pytest.mark.parametrize("url", ["redis://u:secret@h/x", "unix:///a?password=secret&x=1"])
def test_a_password_is_never_shown(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_url(url)

    assert "secret" not in str(caught.value)
    assert "secret" not in without_password(url)
    assert "secret" not in repr(parse_url("redis://u:secret@h"))


async def test_hot_reads_are_tight_and_never_retried() -> None:
    client = hot_client("redis://h", HotProfile(0.01, 0.02, 3))

    assert isinstance(client, redis.asyncio.Redis)
    connection = a_connection(client)
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (0.01, 0.02)
    assert connection.retry.get_retries() == 0
    assert connection.health_check_interval == 0
    assert client.connection_pool.max_connections == 3


async def test_cluster_and_sentinel_hot_reads_are_never_retried_either() -> None:
    cluster = hot_client("redis+cluster://h")
    single = hot_client("redis+sentinel://h/main")

    assert isinstance(cluster, redis.asyncio.RedisCluster)
    assert cluster.retry.get_retries() == 0
    assert isinstance(single, redis.asyncio.Redis)
    pool: Any = single.connection_pool
    assert a_connection(pool.sentinel_manager.sentinels[0]).retry.get_retries() == 0
    await close(single)


async def test_watchers_wait_for_as_long_as_they_are_told() -> None:
    watcher, consumer = watch_client("redis://h"), watch_client("redis://h", 5.0, 12)

    assert a_connection(watcher).socket_timeout == 1.0
    assert a_connection(consumer).socket_timeout == 5.0
    pool: Any = consumer.connection_pool  # type: ignore[union-attr]  # one server, so it has one
    assert pool.max_connections == 12


def test_commands_are_patient_with_few_retries() -> None:
    client = admin_client("rediss://h")

    connection = a_connection(client)
    assert connection.socket_timeout == 5.0
    assert connection.retry.get_retries() == 2
    assert isinstance(connection, redis.SSLConnection)


def test_a_cluster_that_is_not_there_is_an_unavailable_store() -> None:
    with pytest.raises(StoreUnavailable, match="connecting to the cluster"):
        admin_client("redis+cluster://127.0.0.1:1", timeout_s=0.1)


def test_the_reason_of_a_failure_is_told() -> None:
    with pytest.raises(StoreUnavailable, match="while trying: it broke"), store_errors("trying"):
        raise redis.ConnectionError("it broke")


def test_the_client_library_reads_without_time_limit_when_told_so() -> None:
    parameters = inspect.signature(redis.asyncio.Connection.read_response).parameters

    assert "timeout" in parameters
    assert "math.inf" in (redis.asyncio.Connection.read_response.__doc__ or "")


async def ask(task: asyncio.Task[Any]) -> None:
    """Do what the client does when it is cancelled just as it is done."""
    with store_errors("trying"):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1)


async def test_a_cancellation_that_the_client_swallows_is_not_lost() -> None:
    task = asyncio.current_task()
    assert task is not None

    with pytest.raises(asyncio.CancelledError):
        await ask(task)

    with store_errors("cleaning up afterwards"):
        await asyncio.sleep(0)
    task.uncancel()


def test_a_thread_without_a_loop_can_not_be_cancelled() -> None:
    with store_errors("trying"):
        pass
