"""Two phases: every worker makes a release ready, then the pointer moves for all at once."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rta_service.domain import rollout
from rta_service.domain.audit import AuditEntry
from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import DegradedError, InvalidInput
from rta_service.domain.release import ModelRef
from rta_service.releasing.activation import Patience, activate, activate_at_once, switch
from rta_service.releasing.desk import Desk
from rta_service.releasing.trying import weighed
from rta_service.stores.redis import close, watch_client
from rta_service.stores.release_reader import AsyncReleaseReader

NOW_MS = 1_717_286_400_000
DEED = AuditEntry(NOW_MS, "cli:ann", "canary", "trade v2 for 10 %", "better on new users")
BOUND_S = 0.25
"""What the issue allows from the commit to the last worker's switch."""


def a_canary(stage: Any, share: int = 100_000) -> Any:
    """A draft with trade v2 as the canary."""
    shadowed = rollout.to_shadow(stage.draft(), [stage.new])
    return rollout.to_canary(shadowed, [stage.new], share, NOW_MS)


def test_without_workers_a_release_decides_at_once(stage: Any) -> None:
    release = activate(stage.shelf, a_canary(stage), DEED)

    assert stage.shelf.releases.current() == release
    assert release.canary is not None
    assert release.mean_values == pytest.approx({"s@json": 0.01})
    assert release.canary.mean_values == pytest.approx({"s@json": 0.04})
    (entry, _) = stage.shelf.releases.audit(2)
    assert (entry.what, entry.release_id) == (DEED.what, release.release_id)


def test_all_workers_are_ready_before_the_pointer_moves_and_then_switch_without_loading(
    stage: Any, run_workers: Any, wait_for: Callable[..., None]
) -> None:
    release = weighed(stage.shelf, a_canary(stage))

    with run_workers(2) as workers:
        switch(stage.shelf.releases, release, DEED, Patience())
        committed_s = SystemClock().monotonic_s()
        wait_for(lambda: all(w.release_id == release.release_id for w in workers))

    for worker in workers:
        events = [(news.event, news.release_id) for news in worker.news]
        assert events == [
            ("release_taken", "r1"),
            ("release_prepared", release.release_id),
            ("release_taken", release.release_id),
        ]
        assert worker.switched_s[release.release_id] - committed_s < BOUND_S
        arm = worker.pipeline.live.canary
        assert arm.versions.models == {"register": "v1", "trade": "v2"}
        assert arm.bound["json"][0].mean_value == pytest.approx(0.04)


def test_the_way_back_reads_no_file_and_takes_a_quarter_of_a_second(
    stage: Any, run_workers: Any, wait_for: Callable[..., None], tmp_path: Path
) -> None:
    canary = weighed(stage.shelf, a_canary(stage))
    with run_workers(2) as workers:
        switch(stage.shelf.releases, canary, DEED, Patience())
        live = weighed(stage.shelf, rollout.to_live(stage.draft(NOW_MS + 2), [stage.new]))
        switch(stage.shelf.releases, live, DEED, Patience())
        wait_for(lambda: all(w.release_id == live.release_id for w in workers))
        reads = [worker.shelf.heads.reads for worker in workers]
        stage.shelf.models_folder.rename(tmp_path / "gone")

        back = activate_at_once(stage.shelf, rollout.roll_back(stage.draft(NOW_MS + 3)), DEED)
        committed_s = SystemClock().monotonic_s()
        wait_for(lambda: all(w.release_id == back.release_id for w in workers))

    assert {ref.version for ref in back.models} == {"v1"}
    assert back.mean_values == stage.first.mean_values
    assert [worker.shelf.heads.reads for worker in workers] == reads
    for worker in workers:
        assert worker.switched_s[back.release_id] - committed_s < BOUND_S


def test_the_desk_goes_back_a_release_and_names_who_wanted_it(
    stage: Any, run_workers: Any, wait_for: Callable[..., None]
) -> None:
    desk = Desk(lambda: stage.shelf, SystemClock())
    activate_at_once(stage.shelf, stage.draft(note="by mistake"), DEED)

    with run_workers(1) as (worker,):
        back = desk.rollback("ops", "it was a mistake")
        wait_for(lambda: worker.release_id == back.release_id)

    (entry, *_) = stage.shelf.releases.audit(1)
    assert (entry.who, entry.action, entry.why) == ("ops", "rollback", "it was a mistake")
    assert desk.current() == back
    assert len(desk.history(9)) == 3


def test_a_worker_that_refuses_is_named_and_the_current_release_goes_on(
    stage: Any, run_workers: Any, tmp_path: Path
) -> None:
    release = weighed(stage.shelf, a_canary(stage))
    folders = [stage.shelf.models_folder, tmp_path / "lacks trade v2"]
    lacking = folders[1] / "objects"
    lacking.mkdir(parents=True)
    for ref in stage.first.models:
        name = f"{ref.sha256}.forest"
        (lacking / name).write_bytes((folders[0] / "objects" / name).read_bytes())

    with run_workers(2, folders) as workers:
        with pytest.raises(InvalidInput, match=r"worker decision-1@h:1 can't decide.*trade v2"):
            switch(stage.shelf.releases, release, DEED, Patience())
        on = [worker.release_id for worker in workers]

    assert on == ["r1", "r1"]
    assert stage.shelf.releases.current() == stage.first
    assert stage.shelf.releases.find(release.release_id) is None
    assert len(stage.shelf.releases.audit(9)) == 1


async def test_a_worker_that_is_not_ready_in_time_is_named(stage: Any, store_url: str) -> None:
    release = weighed(stage.shelf, a_canary(stage))
    client = watch_client(store_url)
    await AsyncReleaseReader(client, stage.shelf.namespace, "decision-0@h:9").show("r1", 9)
    patience = Patience(prepare_s=0.1)

    with pytest.raises(DegradedError, match=r"not ready within 0.1 s in 1 .*decision-0@h:9"):
        await asyncio.to_thread(switch, stage.shelf.releases, release, DEED, patience)
    await close(client)

    assert stage.shelf.releases.current() == stage.first
    assert stage.shelf.releases.find(release.release_id) is None


async def test_a_worker_that_went_away_is_not_waited_for(
    stage: Any, store_url: str, wait_for: Callable[..., None]
) -> None:
    release = weighed(stage.shelf, a_canary(stage))
    client = watch_client(store_url)
    await AsyncReleaseReader(client, stage.shelf.namespace, "decision-0@h:9").show("r1", 9)
    await close(client)

    # it showed itself once and never again: three seconds later nobody waits for it
    await asyncio.to_thread(switch, stage.shelf.releases, release, DEED, Patience())

    assert stage.shelf.releases.current() == release


def test_who_decided_on_another_release_is_told_and_leaves_no_proposal(
    stage: Any, run_workers: Any
) -> None:
    release = weighed(stage.shelf, a_canary(stage))
    activate_at_once(stage.shelf, stage.draft(NOW_MS + 7), DEED)

    with run_workers(1), pytest.raises(InvalidInput, match="made after r1"):
        switch(stage.shelf.releases, release, DEED, Patience())

    assert stage.shelf.releases.find(release.release_id) is None


def test_a_release_that_changes_a_share_has_its_means_at_once(stage: Any) -> None:
    first = activate_at_once(stage.shelf, a_canary(stage), DEED)
    folder = stage.shelf.models_folder
    folder.rename(folder.parent / "gone")  # nothing is measured anew

    more = rollout.to_canary(stage.draft(NOW_MS + 2), [stage.new], 500_000, NOW_MS + 2)
    second = activate_at_once(stage.shelf, more, DEED)

    assert first.canary is not None
    assert second.canary is not None
    assert second.canary.share_millionths == 500_000
    assert second.canary.mean_values == first.canary.mean_values
    assert second.mean_values == first.mean_values


def test_a_draft_without_its_two_heads_is_refused(stage: Any) -> None:
    draft = msgspec.structs.replace(stage.draft(), models=(stage.old,))

    with pytest.raises(InvalidInput, match=r"needs the models register and trade, not \['trade'\]"):
        activate(stage.shelf, draft, DEED)


def test_a_shadow_that_does_not_load_is_refused_too(stage: Any) -> None:
    broken = ModelRef("trade", "v9", "f" * 64)
    draft = msgspec.structs.replace(stage.draft(), shadow=(broken,))

    with pytest.raises(Exception, match="trade v9"):
        activate(stage.shelf, draft, DEED)

    assert stage.shelf.releases.current() == stage.first
