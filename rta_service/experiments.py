"""Which bucket a person falls into: pure, permanent, the same in every process."""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

BUCKETS: Final = 1_000_000
"""Shares are exact to one in a million."""

_MASK: Final = (1 << 64) - 1


def layer_salt(layer: str) -> int:
    """Give the salt that makes one layer of experiments independent of the others."""
    return int.from_bytes(hashlib.blake2b(layer.encode(), digest_size=8).digest(), "little")


HOLDOUT_SALT: Final = layer_salt("holdout")
"""One layer for all strategies, so that a larger holdout contains a smaller one."""


def bucket(person_key: int, salt: int) -> int:
    """Put a person into one of BUCKETS equal buckets of a layer (splitmix64's finaliser)."""
    mixed = (person_key ^ salt) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    mixed ^= mixed >> 31
    return (mixed * BUCKETS) >> 64


def buckets(person_keys: NDArray[np.uint64], salt: int) -> NDArray[np.int64]:
    """Put many persons into buckets; agrees with `bucket` for each."""
    mixed = person_keys ^ np.uint64(salt)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    # mixed * BUCKETS needs 84 bits: multiply the halves apart
    high = (mixed >> np.uint64(32)) * np.uint64(BUCKETS)
    low = ((mixed & np.uint64(0xFFFFFFFF)) * np.uint64(BUCKETS)) >> np.uint64(32)
    return ((high + low) >> np.uint64(32)).astype(np.int64)


def in_holdout(person_key: int, share: float) -> bool:
    """Tell whether a person is held out at this share, by the permanent holdout layer."""
    return bucket(person_key, HOLDOUT_SALT) < round(share * BUCKETS)
