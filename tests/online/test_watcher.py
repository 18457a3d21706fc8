import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from rta_service.domain.errors import ModelRefused, RTAError, StartupError, StoreUnavailable
from rta_service.online.live_release import LiveRelease
from rta_service.online.pipeline import Pipeline
from rta_service.online.watcher import News, ReleaseWatcher


@dataclass
class FakeSource:
    """Two pointers, and releases that load, hang until `loaded`, or fail to."""

    wanted: str | Exception = ""
    proposed: str = ""
    loads: dict[str, LiveRelease | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    warmed: list[str] = field(default_factory=list)
    answers: list[tuple[str, str]] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    error: RTAError | None = None
    """Of the store, when it is written to."""
    cold: Exception | None = None
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    swallows: str = ""
    """The call that waits until it is cancelled, and then returns as if nothing had happened."""
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.loaded.set()

    async def pointers(self) -> tuple[str, str]:
        await self._swallow("pointers")
        if isinstance(self.wanted, Exception):
            raise self.wanted
        return self.wanted, self.proposed

    async def load(self, release_id: str) -> LiveRelease:
        self.asked.append(release_id)
        await self.loaded.wait()
        loaded = self.loads[release_id]
        if isinstance(loaded, Exception):
            raise loaded
        return loaded

    async def warm(self, live: LiveRelease) -> None:
        if self.cold is not None:
            raise self.cold
        self.warmed.append(live.release.release_id)

    async def acknowledge(self, release_id: str, reason: str) -> None:
        self._fail()
        self.answers.append((release_id, reason))

    async def show(self, release_id: str) -> None:
        await self._swallow("show")
        self._fail()
        self.shown.append(release_id)

    async def _swallow(self, call: str) -> None:
        if self.swallows == call:
            self.waiting.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


@dataclass
class Post:
    """A watcher with its source, its pipeline and what it reported."""

    source: FakeSource
    pipeline: Pipeline
    news: list[News] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.watcher = ReleaseWatcher(self.source, self.pipeline, 0.001, self.report)

    def report(self, news: News) -> None:
        self.news.append(news)
        self.told.set()

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(one.event, one.release_id) for one in self.news]

    async def polls(self, count: int = 1) -> None:
        """Poll, and let the watcher's own tasks run after each poll."""
        for _ in range(count):
            await self.watcher.poll()
            for _ in range(5):
                await asyncio.sleep(0)


@pytest.fixture
def post(a_reader: Any, keys: Any, clock: Any, a_live: Any) -> Post:
    """r1, r2 and r3 load; nothing is published yet."""
    source = FakeSource(loads={r: a_live(release_id=r) for r in ("r1", "r2", "r3")})
    return Post(source, Pipeline(a_reader(), keys, clock))


async def test_nothing_published_is_no_news(post: Post) -> None:
    await post.polls()

    assert post.watcher.live_id == ""
    assert post.news == []


async def test_the_pipeline_follows_the_pointer_there_and_back(post: Post) -> None:
    lived = []
    for wanted in ("r1", "r1", "r2", "r1"):
        post.source.wanted = wanted
        await post.polls()
        lived.append(post.watcher.live_id)

    assert lived == ["r1", "r1", "r2", "r1"]
    assert post.events == [("release_taken", r) for r in ("r1", "r2", "r1")]
    assert post.source.shown == ["r1", "r2", "r1"]
    assert post.source.warmed == ["r1", "r2", "r1"]


async def test_a_proposal_is_made_ready_beside_the_live_release_and_answered(post: Post) -> None:
    post.source.wanted, post.source.proposed = "r1", "r2"

    await post.polls(2)

    assert post.watcher.live_id == "r1"
    assert post.source.answers == [("r2", "")]
    assert post.events == [("release_taken", "r1"), ("release_prepared", "r2")]


async def test_a_commit_takes_what_was_made_ready_without_loading_again(post: Post) -> None:
    post.source.wanted, post.source.proposed = "r1", "r2"
    await post.polls(2)
    prepared = post.source.loads["r2"]

    post.source.wanted, post.source.proposed = "r2", ""
    await post.polls()

    assert post.pipeline.live is prepared
    assert post.source.asked == ["r1", "r2"]


async def test_a_slow_proposal_does_not_keep_the_watcher_from_a_rollback(post: Post) -> None:
    post.source.wanted = "r1"
    await post.polls()
    post.source.loaded.clear()
    post.source.proposed = "r2"
    await post.polls()
    post.source.loaded.set()

    post.source.wanted = "r3"
    await post.watcher.poll()

    assert post.watcher.live_id == "r3"
    assert post.source.asked == ["r1", "r2", "r3"]


async def test_a_commit_that_comes_early_waits_for_what_is_nearly_ready(post: Post) -> None:
    post.source.wanted = "r1"
    await post.polls()
    post.source.loaded.clear()
    post.source.proposed = "r2"
    await post.polls()
    post.source.wanted, post.source.proposed = "r2", ""

    follow = asyncio.create_task(post.watcher.poll())
    await asyncio.sleep(0)
    before = post.watcher.live_id
    post.source.loaded.set()
    await follow

    assert (before, post.watcher.live_id) == ("r1", "r2")
    assert post.source.asked == ["r1", "r2"]


async def test_a_proposal_that_does_not_load_is_refused_with_its_reason(post: Post) -> None:
    post.source.loads["r2"] = ModelRefused("trade v2: damaged")
    post.source.wanted, post.source.proposed = "r1", "r2"

    await post.polls(3)

    assert post.watcher.live_id == "r1"
    assert post.source.answers == [("r2", "trade v2: damaged")]
    assert post.events[-1] == ("release_refused", "r2")


async def test_a_proposal_refused_here_but_committed_all_the_same_is_tried_again(
    post: Post, a_live: Any
) -> None:
    post.source.loads["r2"] = ModelRefused("half copied")
    post.source.wanted, post.source.proposed = "r1", "r2"
    await post.polls(2)
    post.source.loads["r2"] = a_live(release_id="r2")

    post.source.wanted, post.source.proposed = "r2", ""
    await post.polls()

    assert post.watcher.live_id == "r2"


async def test_a_withdrawn_proposal_is_forgotten_and_may_come_again(post: Post) -> None:
    post.source.wanted = "r1"
    for proposed in ("r2", "", "r3", "r2"):
        post.source.proposed = proposed
        await post.polls(2)

    assert post.source.asked == ["r1", "r2", "r3", "r2"]
    assert post.source.answers == [("r2", ""), ("r3", ""), ("r2", "")]


async def test_an_answer_the_store_did_not_take_is_given_again(post: Post) -> None:
    post.source.error = StoreUnavailable("gone")
    post.source.wanted, post.source.proposed = "r1", "r2"
    await post.polls(2)

    post.source.error = None
    await post.polls(2)

    assert post.source.answers == [("r2", "")]
    assert post.watcher.live_id == "r1"


async def test_a_way_back_that_can_not_be_warmed_is_said_and_costs_nothing(post: Post) -> None:
    post.source.cold = ModelRefused("trade v1: gone")
    post.source.wanted = "r1"

    await post.polls()

    assert post.watcher.live_id == "r1"
    assert post.events == [("release_taken", "r1"), ("way_back_cold", "r1")]


@pytest.mark.parametrize("error", [ModelRefused("damaged"), ValueError("unforeseen")])
async def test_a_release_that_does_not_load_leaves_the_old_one_deciding(
    post: Post, error: Exception
) -> None:
    post.source.wanted = "r1"
    await post.polls()
    post.source.loads["r2"] = error
    post.source.wanted = "r2"

    await post.polls()

    last = post.news[-1]
    assert post.watcher.live_id == "r1"
    assert (last.event, last.release_id) == ("release_refused", "r2")
    assert isinstance(last.error, StartupError)
    assert str(error) in str(last.error)


async def test_a_refused_release_is_tried_again_after_a_while(post: Post, a_live: Any) -> None:
    post.source.loads["r1"] = ModelRefused("half copied")
    post.source.wanted = "r1"

    await post.polls()
    post.source.loads["r1"] = a_live(release_id="r1")
    await post.polls(5)
    tries_before = len(post.source.asked)
    post.watcher._retry_at_s = 0.0  # the while has passed
    await post.polls()

    assert tries_before == 1
    assert post.watcher.live_id == "r1"


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), OSError("unforeseen")])
async def test_a_store_that_is_away_changes_nothing(post: Post, error: Exception) -> None:
    post.source.wanted = "r1"
    await post.polls()
    post.source.wanted = error

    await post.polls()

    assert post.watcher.live_id == "r1"
    assert post.news[-1].event == "store_unavailable"
    assert isinstance(post.news[-1].error, RTAError)


@pytest.mark.parametrize("swallows", ["pointers", "show"])
async def test_it_ends_even_if_the_stores_client_swallows_the_cancellation(
    post: Post, swallows: str
) -> None:
    post.source.swallows = swallows
    task = asyncio.create_task(post.watcher.run())
    async with asyncio.timeout(5):
        await post.source.waiting.wait()

    task.cancel()

    left = [t for t in asyncio.all_tasks() if "ReleaseWatcher" in repr(t)]
    _, pending = await asyncio.wait(left, timeout=5)
    assert not pending


async def test_a_store_that_comes_back_is_reported_once(post: Post) -> None:
    post.source.wanted = StoreUnavailable("gone")
    await post.polls()
    post.source.wanted = ""

    await post.polls(2)

    assert post.events == [("store_unavailable", ""), ("store_back", "")]


@pytest.mark.parametrize("error", [None, StoreUnavailable("gone")])
async def test_it_polls_and_shows_itself_until_it_is_cancelled(
    post: Post, error: RTAError | None
) -> None:
    post.source.error = error
    task = asyncio.create_task(post.watcher.run())
    await asyncio.sleep(0)
    post.source.wanted, post.source.proposed = "r1", "r2"

    async with asyncio.timeout(5):
        await post.told.wait()
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert post.watcher.live_id == "r1"
    assert post.source.shown[:1] == ([""] if error is None else [])
