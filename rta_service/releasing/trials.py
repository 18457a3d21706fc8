"""Which models are on trial in a release, each against the live one of its name."""

import zlib
from typing import NamedTuple

from rta_service.domain.release import ModelRef, Release
from rta_service.domain.rollout import Phase


class Trial(NamedTuple):
    """One candidate beside the live model of its name."""

    phase: Phase
    """SHADOW or CANARY."""
    live: ModelRef
    candidate: ModelRef

    @property
    def name(self) -> str:
        """The model's name, which is also its head's."""
        return self.candidate.name

    @property
    def key(self) -> str:
        """Name what is known of the two versions; the same in shadow and as canary."""
        return f"{self.name}:{self.live.version}:{self.candidate.version}"

    @property
    def code(self) -> int:
        """Name it in 32 bits, where many are kept."""
        return zlib.crc32(self.key.encode())


def trials_of(release: Release | None) -> list[Trial]:
    """Give the trials that run: the canary's first, then the shadows'.

    A candidate whose name has no live model has nothing to be compared with.
    """
    if release is None:
        return []
    live = {ref.name: ref for ref in release.models}
    canary = release.canary.models if release.canary else ()
    phases = ((Phase.CANARY, canary), (Phase.SHADOW, release.shadow))
    return [
        Trial(phase, live[ref.name], ref)
        for phase, refs in phases
        for ref in refs
        if ref.name in live and live[ref.name] != ref
    ]
