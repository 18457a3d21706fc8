"""When what was written to the store counts as kept, and how that is found out.

disk         on the disk: survives the machine
written      in the store's append-only file, where it has one: survives the store's process, and
             of the machine's power all but the last second
replicas:N   received by N replicas: survives this machine, unless all lose power at once

`disk` takes what the store offers: `appendfsync always`; our own fsync of its files where it runs
beside us; else WAITAOF, if it tells the truth. With `appendfsync everysec` many servers answer
WAITAOF before their fsync (redis/redis#13793, and Valkey 9.1 still), so it is put to the test.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import redis
import redis.asyncio

from rta_service.domain.errors import InvalidInput, StartupError, StoreUnavailable
from rta_service.stores.redis import AsyncClient, store_errors

MakeDurable = Callable[[], Awaitable[None]]
"""Returns once all that the store answered before the call is kept; raises StoreUnavailable."""

APPEND_ONLY_FOLDER: Final = "appendonlydir"
_PATIENCE_MS: Final = 3_000
_POLL_S: Final = 0.002
_PROOF_S: Final = 0.5
"""Between two fsyncs `everysec` lets a second pass; an answer sooner than this came before one."""
_REMEDY: Final = "set appendfsync always there, or choose durability written or replicas:N"


class Mode(StrEnum):
    """What an acknowledged event survives."""

    DISK = "disk"
    WRITTEN = "written"
    REPLICAS = "replicas"


@dataclass(frozen=True, slots=True)
class Durability:
    """A mode, and of `replicas` how many."""

    mode: Mode = Mode.DISK
    replicas: int = 0


def parse_durability(text: str) -> Durability:
    """Read `disk`, `written` or `replicas:N`; raises InvalidInput for anything else."""
    if text in (Mode.DISK, Mode.WRITTEN):
        return Durability(Mode(text))
    word, _, count = text.partition(":")
    if word == Mode.REPLICAS and count.isascii() and count.isdecimal() and int(count):
        return Durability(Mode.REPLICAS, int(count))
    raise InvalidInput(f"{text!r} is none of disk, written, replicas:1, replicas:2, ...")


async def make_durable_by(
    client: AsyncClient, touch: str, durability: Durability, data_dir: Path | None = None
) -> MakeDurable:
    """Find out how this store makes writes durable; takes 3 s where WAITAOF must be tested.

    `touch` is a key that may be written; `data_dir` that of a store whose files are ours. Raises
    StartupError that says what to do where the mode can't be kept.
    """
    if isinstance(client, redis.asyncio.RedisCluster):
        if durability.mode is Mode.WRITTEN:
            return _at_once  # as far as each of its nodes has it; nobody asks them one by one
        raise StartupError("on a cluster only durability written can be kept")
    if durability.mode is Mode.WRITTEN:
        return GroupCommit(_Flushed(client))
    if durability.mode is Mode.REPLICAS:
        wait = ("WAIT", durability.replicas, _PATIENCE_MS)
        return GroupCommit(_Waiting(client, touch, wait, durability.replicas))
    return await _disk(client, touch, data_dir)


async def _disk(client: redis.asyncio.Redis, touch: str, data_dir: Path | None) -> MakeDurable:
    settings = await _settings(client)
    if settings.get("appendonly") == "no":
        raise StartupError("durability disk needs an append-only file: set appendonly yes there")
    if settings.get("appendfsync") == "always":
        return _at_once
    if data_dir is not None:
        return GroupCommit(_InTurn(_Flushed(client), FileSync(data_dir)))
    waiting = _Waiting(client, touch, ("WAITAOF", 1, 0, _PATIENCE_MS), 1)
    if await _is_truthful(waiting):
        return GroupCommit(waiting)
    raise StartupError(f"the store's WAITAOF answers before the disk has the data: {_REMEDY}")


async def _settings(client: redis.asyncio.Redis) -> dict[str, str]:
    try:
        with store_errors("asking how the store keeps its data"):
            found = await client.config_get("append*")
            return {str(name): str(value) for name, value in found.items()}
    except StoreUnavailable as error:
        if isinstance(error.__cause__, redis.ResponseError):
            return {}  # managed stores hide CONFIG: what they do shows in the test of WAITAOF
        raise


async def _is_truthful(waiting: MakeDurable) -> bool:
    loop = asyncio.get_running_loop()
    took = []
    for _ in range(3):
        started = loop.time()
        try:
            await waiting()
        except StoreUnavailable as error:
            if isinstance(error.__cause__, redis.ResponseError):
                raise StartupError(f"durability disk can't be kept: {error}; {_REMEDY}") from error
            raise
        took.append(loop.time() - started)
    return min(took[1:]) >= _PROOF_S


async def _at_once() -> None:
    """Take the store's answer for all it can tell."""


class _Flushed:
    """Waits until the store has handed what it must append to the system.

    With `everysec` it answers before that for up to 2 s, while its own fsync is at work: killed in
    that time, it would lose what it answered.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def __call__(self) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + _PATIENCE_MS / 1000
        while await self._unwritten():
            if loop.time() >= end_s:
                raise StoreUnavailable(
                    "the store does not write its append-only file: is its disk full?"
                )
            await asyncio.sleep(_POLL_S)

    async def _unwritten(self) -> int:
        with store_errors("waiting for the store's append-only file"):
            facts = await self._client.info("persistence")
        return int(facts.get("aof_buffer_length", 0))  # absent without an append-only file


class _InTurn:
    """One condition after the other."""

    def __init__(self, *parts: MakeDurable) -> None:
        self._parts = parts

    async def __call__(self) -> None:
        for part in self._parts:
            await part()


class _Waiting:
    """Waits for the store's word on one connection, after a write of its own.

    The store waits for the writes of the connection that asks; as all go to one file and one
    stream of replication, the last write there covers everybody's before it.
    """

    def __init__(
        self, client: redis.asyncio.Redis, touch: str, command: tuple[Any, ...], needed: int
    ) -> None:
        self._client = client
        self._touch = touch
        self._command = command
        self._needed = needed

    async def __call__(self) -> None:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.incr(self._touch)
        pipeline.execute_command(*self._command)
        with store_errors(f"waiting for {self._command[0]}"):
            _, reply = await pipeline.execute()
        kept = reply[0] if isinstance(reply, list) else reply
        if kept < self._needed:
            raise StoreUnavailable(
                f"{self._command[0]}: {kept} of {self._needed} copies within {_PATIENCE_MS} ms"
            )


class FileSync:
    """Brings the append-only files of a store beside us to the disk, as the store itself would.

    For what the store has handed to the system: an fsync is of the file, whoever calls it. So its
    main thread, which answers the decision workers, never waits for the disk.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / APPEND_ONLY_FOLDER
        self._open: dict[str, int] = {}

    async def __call__(self) -> None:
        """Sync in a thread; raises StoreUnavailable for a disk that fails."""
        with store_errors("syncing the store's append-only file"):
            await asyncio.to_thread(self._sync)

    def _sync(self) -> None:
        """Sync every file that takes writes; one that vanished was rewritten, and synced, whole.

        Files stay open: only who had one open is told of an error while it was written back.
        """
        names = {path.name for path in self._folder.glob("*.incr.aof")}
        if not names:
            raise StoreUnavailable(f"no append-only file in {self._folder.name}")
        for name in names - self._open.keys():
            try:
                self._open[name] = os.open(self._folder / name, os.O_RDONLY)
            except FileNotFoundError:
                continue
        for name in self._open.keys() - names:
            os.close(self._open.pop(name))
        for descriptor in self._open.values():
            os.fsync(descriptor)

    def close(self) -> None:
        """Let go of the files."""
        while self._open:
            os.close(self._open.popitem()[1])


class GroupCommit:
    """Lets all who wait share one round of making durable; those who come later share the next."""

    def __init__(self, make_durable: MakeDurable) -> None:
        self._make_durable = make_durable
        self._next: asyncio.Future[StoreUnavailable | None] | None = None
        self._rounds: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        """Wait for a round that begins after this call; raises StoreUnavailable if it fails."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            if self._rounds is None or self._rounds.done():
                self._rounds = asyncio.create_task(self._run())
        error = await asyncio.shield(self._next)
        if error is not None:
            raise StoreUnavailable(str(error)) from error

    async def _run(self) -> None:
        while self._next is not None:
            waiting, self._next = self._next, None
            try:
                await self._make_durable()
                waiting.set_result(None)
            except StoreUnavailable as error:
                waiting.set_result(error)
            finally:
                waiting.cancel()  # nobody waits for ever, whatever was raised
