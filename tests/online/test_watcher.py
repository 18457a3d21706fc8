import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from rta_service.domain.errors import ModelRefused, RTAError, StartupError, StoreUnavailable
from rta_service.online.live_release import LiveRelease
from rta_service.online.pipeline import Pipeline
from rta_service.online.watcher import _RETRY_POLLS, ReleaseWatcher


@dataclass
class FakeSource:
    """A pointer, and releases that load or fail to."""

    wanted: str | Exception = ""
    loads: dict[str, LiveRelease | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def current_id(self) -> str:
        if isinstance(self.wanted, Exception):
            raise self.wanted
        return self.wanted

    async def load(self, release_id: str) -> LiveRelease:
        self.asked.append(release_id)
        loaded = self.loads[release_id]
        if isinstance(loaded, Exception):
            raise loaded
        return loaded


@dataclass
class Post:
    """A watcher with its source, its pipeline and what it reported."""

    source: FakeSource
    pipeline: Pipeline
    reports: list[tuple[str, RTAError | None]] = field(default_factory=list)
    switched: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.watcher = ReleaseWatcher(self.source, self.pipeline, 0.001, self.report)

    def report(self, release_id: str, error: RTAError | None) -> None:
        self.reports.append((release_id, error))
        self.switched.set()


@pytest.fixture
def post(a_reader: Any, keys: Any, clock: Any, a_live: Any) -> Post:
    """Both r1 and r2 load; nothing is published yet."""
    source = FakeSource(loads={r: a_live(release_id=r) for r in ("r1", "r2")})
    return Post(source, Pipeline(a_reader(), keys, clock))


async def test_nothing_published_is_no_news(post: Post) -> None:
    await post.watcher.poll()

    assert post.watcher.live_id == ""
    assert post.reports == []


async def test_the_pipeline_follows_the_pointer_there_and_back(post: Post) -> None:
    lived = []
    for wanted in ("r1", "r1", "r2", "r1"):
        post.source.wanted = wanted
        await post.watcher.poll()
        lived.append(post.watcher.live_id)

    assert lived == ["r1", "r1", "r2", "r1"]
    assert post.reports == [("r1", None), ("r2", None), ("r1", None)]


@pytest.mark.parametrize("error", [ModelRefused("damaged"), ValueError("unforeseen")])
async def test_a_release_that_does_not_load_leaves_the_old_one_deciding(
    post: Post, error: Exception
) -> None:
    post.source.wanted = "r1"
    await post.watcher.poll()
    post.source.loads["r2"] = error
    post.source.wanted = "r2"

    await post.watcher.poll()

    name, reported = post.reports[-1]
    assert post.watcher.live_id == "r1"
    assert name == "r2"
    assert isinstance(reported, StartupError)
    assert str(error) in str(reported)


async def test_a_refused_release_is_tried_again_after_some_polls(post: Post, a_live: Any) -> None:
    post.source.loads["r1"] = ModelRefused("half copied")
    post.source.wanted = "r1"

    await post.watcher.poll()
    post.source.loads["r1"] = a_live(release_id="r1")
    for _ in range(_RETRY_POLLS):
        await post.watcher.poll()
    tries_before = len(post.source.asked)
    await post.watcher.poll()

    assert tries_before == 1
    assert post.watcher.live_id == "r1"


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), OSError("unforeseen")])
async def test_a_store_that_is_away_changes_nothing(post: Post, error: Exception) -> None:
    post.source.wanted = "r1"
    await post.watcher.poll()
    post.source.wanted = error

    await post.watcher.poll()

    assert post.watcher.live_id == "r1"
    assert post.reports[-1][0] == ""
    assert isinstance(post.reports[-1][1], RTAError)


async def test_it_polls_until_it_is_cancelled(post: Post) -> None:
    task = asyncio.create_task(post.watcher.run())
    await asyncio.sleep(0)
    post.source.wanted = "r1"

    async with asyncio.timeout(5):
        await post.switched.wait()
    task.cancel()

    assert post.watcher.live_id == "r1"


async def test_a_store_that_comes_back_is_reported_once(post: Post) -> None:
    post.source.wanted = StoreUnavailable("gone")
    await post.watcher.poll()
    post.source.wanted = ""

    await post.watcher.poll()
    await post.watcher.poll()

    assert [(name, error is None) for name, error in post.reports] == [("", False), ("", True)]
