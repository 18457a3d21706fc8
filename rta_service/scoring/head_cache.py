"""Heads that are ready to score, kept by content: the way back to one needs no disk."""

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np

from rta_service.domain.release import ModelRef
from rta_service.features import FEATURES
from rta_service.scoring.head import Head
from rta_service.scoring.model_set import check_ref, load_head

DEFAULT_LIMIT: Final = 32
"""A release may name four sets of models (live, previous, canary, shadow) of seven heads each."""


class HeadCache:
    """Loads each model once and keeps those used last; safe to share between threads."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._lock = Lock()
        self._heads: OrderedDict[str, Future[Head]] = OrderedDict()
        self.reads = 0
        """How often a file was read."""

    def __len__(self) -> int:
        return len(self._heads)

    def load(self, folder: Path, ref: ModelRef) -> Head:
        """Give a model's head; only the first call for a content touches the disk.

        Those that ask meanwhile wait for the first. Raises ModelRefused naming file and reason; a
        failure is not kept, so that a mended file is found.
        """
        future, is_first = self._place_of(ref.sha256)
        if is_first:
            self._fill(future, folder, ref)
        head = future.result()
        check_ref(head.manifest, ref)
        return head

    def warm(self, folder: Path, refs: Sequence[ModelRef]) -> None:
        """Load models and score a row with each: a forest's first call is the slow one."""
        for ref in refs:
            self.load(folder, ref).probabilities(np.zeros((1, len(FEATURES))))

    def _place_of(self, sha256: str) -> tuple[Future[Head], bool]:
        """Find or make the place of a content; those used longest ago make room."""
        with self._lock:
            future = self._heads.get(sha256)
            is_first = future is None
            if future is None:
                future = self._heads[sha256] = Future()
                self.reads += 1
            self._heads.move_to_end(sha256)
            while len(self._heads) > self._limit:
                self._heads.popitem(last=False)
        return future, is_first

    def _fill(self, future: Future[Head], folder: Path, ref: ModelRef) -> None:
        try:
            future.set_result(load_head(folder, ref))
        except BaseException as error:
            with self._lock:
                if self._heads.get(ref.sha256) is future:
                    del self._heads[ref.sha256]
            future.set_exception(error)
            raise
