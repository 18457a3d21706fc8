"""Where a candidate lies while it is judged, said so that both processes understand it.

<folder>/<the bundle's files>      the upload as it came
<folder>/objects/<sha256>.forest   what would be stored and served
<folder>/traffic.npy               rows float64 [n, F] of recent requests
"""

from pathlib import Path
from typing import Final

import msgspec

from rta_service.domain.release import ModelRef

TRAFFIC: Final = "traffic.npy"

ModelWords = dict[str, str]
"""`folder` and the fields of a ModelRef, as JSON carries them."""


def words_of(folder: Path, ref: ModelRef) -> ModelWords:
    """Write where a model lies, and which one it is."""
    return {"folder": str(folder.resolve()), **msgspec.to_builtins(ref)}


def parts_of(words: ModelWords) -> tuple[Path, ModelRef]:
    """Read what `words_of` wrote."""
    return Path(words["folder"]), ModelRef(words["name"], words["version"], words["sha256"])
