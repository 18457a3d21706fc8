import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from rta_service.domain.errors import InvalidInput, StartupError, StoreUnavailable
from rta_service.stores.durability import (
    APPEND_ONLY_FOLDER,
    Durability,
    FileSync,
    GroupCommit,
    MakeDurable,
    Mode,
    make_durable_by,
    parse_durability,
)
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.redis import AsyncClient, close, watch_client

DISK = Durability()


@pytest.fixture
async def client(store_url: str) -> AsyncIterator[AsyncClient]:
    client = watch_client(store_url, 5.0)
    yield client
    await close(client)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("disk", Durability(Mode.DISK)),
        ("written", Durability(Mode.WRITTEN)),
        ("replicas:2", Durability(Mode.REPLICAS, 2)),
    ],
)
def test_a_durability_is_one_word(text: str, expected: Durability) -> None:
    assert parse_durability(text) == expected


@pytest.mark.parametrize("text", ["", "Disk", "replicas", "replicas:0", "replicas:-1", "disk:1"])
def test_another_word_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(InvalidInput, match="none of disk, written, replicas:1"):
        parse_durability(text)


async def test_a_store_beside_us_is_synced_by_its_files(
    store_url: str, client: AsyncClient
) -> None:
    folder = Path(store_url.removeprefix("unix://")).parent
    durable = await make_durable_by(client, "touch", DISK, folder)

    await client.set("key", "value")
    await durable()


async def test_a_store_that_syncs_always_needs_no_more(
    server: Callable[..., int],
) -> None:
    port = server("--appendonly", "yes", "--appendfsync", "always")
    own = watch_client(f"redis://127.0.0.1:{port}", 5.0)

    await (await make_durable_by(own, "touch", DISK))()

    assert not await own.exists("touch")
    await close(own)


async def test_a_waitaof_is_believed_only_if_it_waits(client: AsyncClient) -> None:
    loop = asyncio.get_running_loop()
    try:
        durable = await make_durable_by(client, "touch", DISK)
    except StartupError as error:
        assert "WAITAOF answers before the disk" in str(error)  # noqa: PT017 - either may come
        assert "appendfsync always" in str(error)  # noqa: PT017 - either may come
        return
    await durable()
    started = loop.time()
    await durable()
    assert loop.time() - started > 0.5


async def test_a_store_without_an_append_only_file_is_refused(server: Callable[..., int]) -> None:
    own = watch_client(f"redis://127.0.0.1:{server()}", 5.0)

    with pytest.raises(StartupError, match="set appendonly yes"):
        await make_durable_by(own, "touch", DISK)

    await close(own)


async def test_a_store_that_hides_its_settings_is_judged_by_waitaof(
    server: Callable[..., int],
) -> None:
    own = watch_client(f"redis://127.0.0.1:{server('--rename-command', 'CONFIG', '')}", 5.0)

    with pytest.raises(StartupError, match=r"WAITAOF.*appendfsync always"):
        await make_durable_by(own, "touch", DISK)

    await close(own)


async def test_a_cluster_keeps_only_what_was_written(cluster_url: str) -> None:
    client = watch_client(cluster_url)

    await (await make_durable_by(client, "touch", Durability(Mode.WRITTEN)))()
    with pytest.raises(StartupError, match="only durability written"):
        await make_durable_by(client, "touch", DISK)

    await close(client)


async def test_replicas_are_waited_for(sentinel_url: str) -> None:
    client = watch_client(sentinel_url, 5.0)

    await (await make_durable_by(client, "touch", Durability(Mode.REPLICAS, 1)))()
    more = await make_durable_by(client, "touch", Durability(Mode.REPLICAS, 2))
    with pytest.raises(StoreUnavailable, match="WAIT: 1 of 2 copies"):
        await more()

    await close(client)


async def test_files_that_come_and_go_are_synced_and_let_go(tmp_path: Path) -> None:
    folder = tmp_path / APPEND_ONLY_FOLDER
    folder.mkdir()
    (folder / "a.1.incr.aof").write_bytes(b"1")
    sync = FileSync(tmp_path)

    await sync()
    (folder / "a.1.incr.aof").unlink()
    (folder / "a.2.incr.aof").write_bytes(b"2")
    await sync()

    assert list(sync._open) == ["a.2.incr.aof"]
    sync.close()
    assert not sync._open


async def test_a_store_without_files_is_not_durable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no append-only file"):
        await FileSync(tmp_path)()


def counted(rounds: list[int], *, fails: bool = False) -> MakeDurable:
    async def make_durable() -> None:
        rounds.append(len(rounds))
        await asyncio.sleep(0.02)
        if fails:
            raise StoreUnavailable("no disk")

    return make_durable


async def test_many_share_a_round_and_none_rides_on_one_that_had_begun() -> None:
    rounds: list[int] = []
    durable = GroupCommit(counted(rounds))

    first = asyncio.create_task(durable())
    await asyncio.sleep(0.005)
    late = [asyncio.create_task(durable()) for _ in range(20)]
    await first
    assert not any(one.done() for one in late)
    await asyncio.gather(*late)

    assert rounds == [0, 1]
    await durable()
    assert rounds == [0, 1, 2]


async def test_a_failed_round_fails_for_all_who_waited_for_it() -> None:
    durable = GroupCommit(counted([], fails=True))

    fates = await asyncio.gather(durable(), durable(), return_exceptions=True)

    assert [str(fate) for fate in fates] == ["no disk", "no disk"]


async def test_one_who_stops_waiting_takes_no_other_along() -> None:
    durable = GroupCommit(counted([]))
    patient, impatient = asyncio.create_task(durable()), asyncio.create_task(durable())
    await asyncio.sleep(0.005)

    impatient.cancel()

    await patient
    assert impatient.cancelled()


async def test_a_stopped_store_is_unavailable(own_store: EmbeddedStore) -> None:
    client = watch_client(own_store.url, 5.0)
    durable = await make_durable_by(client, "touch", Durability(Mode.REPLICAS, 1))

    own_store.stop()

    with pytest.raises(StoreUnavailable, match="waiting for WAIT"):
        await durable()
    await close(client)


async def test_what_the_store_has_not_written_yet_is_waited_for(own_store: EmbeddedStore) -> None:
    client = watch_client(own_store.url, 5.0)
    durable = await make_durable_by(client, "touch", Durability(Mode.WRITTEN))
    folder = Path(own_store.url.removeprefix("unix://")).parent / APPEND_ONLY_FOLDER

    for number in range(200):
        await client.set("key", f"value {number}")
        await durable()
        written = b"".join(path.read_bytes() for path in folder.glob("*.incr.aof"))
        assert b"value %d\r\n" % number in written

    await close(client)
