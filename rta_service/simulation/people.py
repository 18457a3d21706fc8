"""Who lives in the simulated marketplace, and by which device ids the world knows them."""

import hashlib
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.device import IdKind, OperatingSystem
from rta_service.domain.user import Role

CATEGORIES: Final = (
    "phones",
    "computers",
    "cameras",
    "games",
    "clothing",
    "shoes",
    "bags",
    "toys",
    "books",
    "furniture",
    "instruments",
    "bicycles",
)
MAX_IDS: Final = 3

Array = NDArray[Any]


def toss(rng: np.random.Generator, count: int, share: float | Array) -> NDArray[np.bool_]:
    """Toss `count` coins that fall on true with a probability, one for all or one each."""
    return np.asarray(rng.random(count) < share)


@dataclass(frozen=True, slots=True)
class MarketOptions:
    """How big the market is and when it is looked at; the same options give the same bytes."""

    devices: int = 50_000
    """Device ids, which is what becomes a user record; a person has one to three."""
    seed: int = 7
    days: int = 120
    as_of: date = date(2026, 3, 1)
    """The log ends before 00:00 UTC of this day."""


@dataclass(frozen=True, slots=True)
class People:
    """What persons are, as columns of one length; no one but the simulation sees all of it."""

    interest: NDArray[np.float64]
    """Latent interest in second-hand goods, standard normal; the log only hints at it."""
    role: NDArray[np.int64]
    """Role codes."""
    os: NDArray[np.int64]
    """OperatingSystem codes."""
    arrival_day: NDArray[np.int64]
    """The first day on which ads or word of mouth reach the person."""
    reach: NDArray[np.float64]
    """How often ad platforms meet the person, 1 on average."""
    uses_competitor: NDArray[np.bool_]
    prefers_tencent: NDArray[np.bool_]
    favourites: NDArray[np.int64]
    """Two indices into CATEGORIES, [n, 2]."""
    id_count: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.interest)


@dataclass(frozen=True, slots=True)
class Devices:
    """Device ids, grouped by person in the order of their reliability."""

    raw: list[str]
    kind: list[IdKind]
    person: NDArray[np.int64]
    first_of: NDArray[np.int64]
    """Person to their first device id."""


def make_people(options: MarketOptions, rng: np.random.Generator) -> People:
    """Draw as many persons as it takes to own `options.devices` device ids."""
    os = rng.choice(
        [OperatingSystem.ANDROID, OperatingSystem.IOS, OperatingSystem.HARMONY],
        size=options.devices,
        p=[0.62, 0.30, 0.08],
    )
    id_count = _id_counts(os, rng)
    persons = int(np.searchsorted(np.cumsum(id_count), options.devices)) + 1
    id_count = id_count[:persons]
    id_count[-1] -= id_count.sum() - options.devices
    return People(
        interest=rng.standard_normal(persons),
        role=rng.choice(
            [Role.BUYER, Role.PRIVATE_SELLER, Role.PROFESSIONAL_SELLER],
            size=persons,
            p=[0.78, 0.20, 0.02],
        ),
        os=os[:persons],
        arrival_day=_arrivals(persons, options.days, rng),
        reach=rng.lognormal(-0.25, 0.7, persons),
        uses_competitor=toss(rng, persons, 0.2),
        prefers_tencent=toss(rng, persons, 0.5),
        favourites=rng.integers(0, len(CATEGORIES), (persons, 2)),
        id_count=id_count,
    )


def _id_counts(os: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    # the second id of a phone (IMEI, IDFA), then a second phone
    second = toss(
        rng,
        len(os),
        np.where(
            os == OperatingSystem.ANDROID, 0.4, np.where(os == OperatingSystem.IOS, 0.35, 0.0)
        ),
    )
    another_phone = toss(rng, len(os), 0.08)
    return np.asarray(1 + second + another_phone, dtype=np.int64)


def _arrivals(persons: int, days: int, rng: np.random.Generator) -> NDArray[np.int64]:
    # a young market that grows: as many arrive in the last third as in the first two
    share = rng.random(persons) ** 0.5
    return np.minimum((share * days).astype(np.int64), days - 1)


def make_devices(people: People, rng: np.random.Generator) -> Devices:
    """Give every person their device ids, spelled as phones spell them."""
    person = np.repeat(np.arange(len(people)), people.id_count)
    first_of = np.cumsum(people.id_count) - people.id_count
    slot = np.arange(len(person)) - first_of[person]
    randomness = rng.bytes(16 * len(person)).hex()
    raw: list[str] = []
    kinds: list[IdKind] = []
    for index, (os, place) in enumerate(
        zip(people.os[person].tolist(), slot.tolist(), strict=True)
    ):
        kind = _KINDS[os][place]
        kinds.append(kind)
        raw.append(spell(kind, randomness[32 * index : 32 * index + 32]))
    return Devices(raw, kinds, person, first_of)


_KINDS: Final = {
    OperatingSystem.ANDROID: (IdKind.OAID, IdKind.IMEI, IdKind.OAID),
    OperatingSystem.IOS: (IdKind.CAID, IdKind.IDFA, IdKind.CAID),
    OperatingSystem.HARMONY: (IdKind.OAID, IdKind.OAID, IdKind.OAID),
}


def spell(kind: IdKind, digits: str) -> str:
    """Write 32 random hex digits as a raw id of a kind."""
    if kind is IdKind.IDFA:
        upper = digits.upper()
        return "-".join((upper[:8], upper[8:12], upper[12:16], upper[16:20], upper[20:]))
    if kind is IdKind.IMEI:
        return "86" + str(int(digits, 16))[-13:].zfill(13)
    if kind is IdKind.CAID:
        return digits
    return digits[:16]


def md5_of(raw: str) -> str:
    """Hash a raw id that is already in its canonical spelling, as platforms do."""
    return hashlib.md5(raw.encode(), usedforsecurity=False).hexdigest()
