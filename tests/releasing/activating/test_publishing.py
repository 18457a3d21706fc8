from pathlib import Path
from typing import Any

import msgspec
import pytest

from rta_service.domain import rollout
from rta_service.domain.audit import AuditEntry
from rta_service.domain.errors import StartupError
from rta_service.domain.release import Release, Staged
from rta_service.releasing.activation import activate_at_once
from rta_service.releasing.loading import all_warm, load, way_back
from rta_service.releasing.publishing import Change, publish
from rta_service.stores.snapshots import load_snapshot

NOW_MS = 1_717_286_400_000
DEED = AuditEntry(NOW_MS, "cli:ann", "canary", "trade v2", "")


def test_before_the_first_release_parts_are_kept(shelf: Any, put_version: Any) -> None:
    models = (put_version("register", "v1", 0.2), put_version("trade", "v1", 0.01))

    kept = publish(shelf, Change(models=models), NOW_MS)

    assert isinstance(kept, Staged)
    assert kept.models == models
    assert shelf.releases.audit(9) == []


def test_a_canary_goes_on_beside_other_strategies_with_means_of_their_own(
    stage: Any, strategies_text: str
) -> None:
    shadowed = rollout.to_shadow(stage.draft(), [stage.new])
    activate_at_once(stage.shelf, rollout.to_canary(shadowed, [stage.new], 100_000, NOW_MS), DEED)
    renamed = strategies_text.replace('"s"', '"other"')

    release = publish(
        stage.shelf,
        Change(strategies=renamed, note="renamed", who="cli:ann", why="Monday"),
        NOW_MS + 5,
    )

    assert isinstance(release, Release)
    assert release.canary is not None
    assert release.canary.share_millionths == 100_000
    assert list(release.mean_values) == ["other@json"]
    assert release.canary.mean_values == pytest.approx({"other@json": 0.04})
    (entry,) = stage.shelf.releases.audit(1)
    assert (entry.who, entry.action, entry.what, entry.why) == (
        "cli:ann",
        "publish",
        "renamed",
        "Monday",
    )


def test_models_published_straight_become_live_and_what_they_replace_previous(
    stage: Any,
) -> None:
    shadowed = rollout.to_shadow(stage.draft(), [stage.new])
    activate_at_once(stage.shelf, rollout.to_canary(shadowed, [stage.new], 100_000, NOW_MS), DEED)

    release = publish(stage.shelf, Change(models=(stage.register, stage.new)), NOW_MS + 5)

    assert isinstance(release, Release)
    assert release.models == (stage.register, stage.new)
    assert release.previous == (stage.old,)
    assert release.canary is None
    (entry,) = stage.shelf.releases.audit(1)
    assert (entry.who, entry.what) == ("unknown", "models")


def test_another_snapshot_has_means_of_its_own(
    stage: Any, write_snapshot: Any, tmp_path: Path
) -> None:
    folder = write_snapshot(tmp_path / "s2", "s2")
    load_snapshot(stage.shelf.client, stage.shelf.namespace, folder)

    release = publish(stage.shelf, Change(snapshot_id="s2"), NOW_MS + 5)

    assert isinstance(release, Release)
    assert (release.snapshot_id, release.models) == ("s2", stage.first.models)
    assert release.mean_values == pytest.approx({"s@json": 0.01})


def test_a_release_without_a_mean_does_not_load(stage: Any) -> None:
    stage.shelf.releases.publish(stage.draft(release_id="r2"), DEED)

    with pytest.raises(StartupError, match="r2 has no mean value for s"):
        load(stage.shelf, "r2")
    with pytest.raises(StartupError, match="release r9 is not in the store"):
        load(stage.shelf, "r9")


def test_a_canary_without_a_mean_does_not_load(stage: Any) -> None:
    shadowed = rollout.to_shadow(stage.draft(mean_values={"s@json": 0.01}), [stage.new])
    canary = rollout.to_canary(shadowed, [stage.new], 100_000, NOW_MS)
    release = msgspec.structs.replace(canary, release_id="r2")
    stage.shelf.releases.publish(release, DEED)

    with pytest.raises(StartupError, match="r2 has no mean value for s"):
        load(stage.shelf, "r2")


def test_workers_keep_the_way_back_warm_and_control_the_shadows_too(stage: Any) -> None:
    release = stage.draft(previous=(stage.new,), shadow=(stage.register,))

    assert way_back(release) == (stage.new,)
    assert all_warm(release) == (stage.new, stage.register)
