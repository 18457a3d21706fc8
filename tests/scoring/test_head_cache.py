"""A head that was loaded once is there again without the disk, whoever asks."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.domain.errors import ModelRefused
from rta_service.domain.funnel import Step
from rta_service.domain.release import ModelRef
from rta_service.features import FEATURES
from rta_service.scoring.head_cache import HeadCache
from rta_service.scoring.model_file import OBJECTS, object_path
from rta_service.scoring.model_set import load_model_set

PutModel = Callable[..., ModelRef]


def test_a_warm_head_needs_no_disk_and_scores_the_same(
    put_model: PutModel, tmp_path: Path, rows: NDArray[np.float64]
) -> None:
    refs = [put_model(), put_model("trade", goal=Step.TRADE)]
    cache = HeadCache()
    cache.warm(tmp_path, refs)
    fresh = load_model_set(tmp_path, refs)

    shutil.rmtree(tmp_path / OBJECTS)
    kept = load_model_set(tmp_path, refs, cache)

    assert cache.reads == 2
    for name, head in fresh.heads.items():
        assert (kept.heads[name].probabilities(rows) == head.probabilities(rows)).all()


def test_threads_that_ask_at_once_read_a_model_once(put_model: PutModel, tmp_path: Path) -> None:
    ref = put_model()
    cache = HeadCache()

    with ThreadPoolExecutor(8) as pool:
        heads = list(pool.map(lambda _: cache.load(tmp_path, ref), range(64)))

    assert len({id(head) for head in heads}) == 1
    assert cache.reads == 1


def test_those_used_longest_ago_make_room(put_model: PutModel, tmp_path: Path) -> None:
    first, second, third = (put_model(version=f"v{number}") for number in range(3))
    cache = HeadCache(limit=2)
    kept = cache.load(tmp_path, first)
    cache.load(tmp_path, second)
    cache.load(tmp_path, first)

    cache.load(tmp_path, third)
    object_path(tmp_path, second.sha256).unlink()

    assert len(cache) == 2
    assert cache.load(tmp_path, first) is kept
    with pytest.raises(ModelRefused, match="can't be read"):
        cache.load(tmp_path, second)


def test_a_failure_is_told_to_all_who_wait_and_not_kept(
    put_model: PutModel, tmp_path: Path
) -> None:
    ref = put_model()
    path = object_path(tmp_path, ref.sha256)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    cache = HeadCache()

    def refused(_: int) -> bool:
        with pytest.raises(ModelRefused, match="damaged or changed"):
            cache.load(tmp_path, ref)
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(refused, range(16)))
    path.write_bytes(whole)

    assert cache.load(tmp_path, ref).probabilities(np.zeros((1, len(FEATURES)))).shape == (1,)


def test_a_cached_content_is_not_given_for_another_model(
    put_model: PutModel, tmp_path: Path
) -> None:
    ref = put_model()
    cache = HeadCache()
    cache.load(tmp_path, ref)

    with pytest.raises(ModelRefused, match="the release names it trade"):
        cache.load(tmp_path, ModelRef("trade", ref.version, ref.sha256))


@pytest.mark.parametrize("limit", [1, 2])
def test_a_small_cache_still_serves_more_models_than_it_keeps(
    put_model: PutModel, tmp_path: Path, limit: int
) -> None:
    refs = [put_model(), put_model("trade", goal=Step.TRADE), put_model("other")]
    cache = HeadCache(limit)

    models = load_model_set(tmp_path, refs, cache)

    assert set(models.heads) == {"register", "trade", "other"}
    assert len(cache) == limit
