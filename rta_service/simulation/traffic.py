"""What ad platforms would send for the people of a market, request by request."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from rta_service.domain.device import IdForm, IdKind, OperatingSystem, Placement
from rta_service.simulation.advertising import PLACEMENTS
from rta_service.simulation.market import Truth
from rta_service.simulation.people import Array, md5_of, spell, toss

HASHED_SHARE: Final = 0.5
"""Part of the json platform's requests that carry MD5s; Tencent sends nothing else."""
NOBODY: Final = -1
"""Stands for a person outside the market."""

_ZEROS: Final = {
    IdKind.IDFA: "00000000-0000-0000-0000-000000000000",
    IdKind.IMEI: "000000000000000",
    IdKind.OAID: "",
}
"""What phones give when they withhold an id; platforms pass it on, hashed or not."""

_WITHHELD: Final = {
    OperatingSystem.ANDROID: IdKind.IMEI,
    OperatingSystem.IOS: IdKind.IDFA,
    OperatingSystem.HARMONY: IdKind.OAID,
}
_STRANGER: Final = {
    OperatingSystem.ANDROID: (IdKind.OAID, IdKind.IMEI),
    OperatingSystem.IOS: (IdKind.CAID,),
    OperatingSystem.HARMONY: (IdKind.OAID,),
}
_OS_SHARES: Final = {
    OperatingSystem.ANDROID: 0.62,
    OperatingSystem.IOS: 0.30,
    OperatingSystem.HARMONY: 0.08,
}
_SECOND_PHONE: Final = 2
"""The place of a person's id that belongs to another phone and so never comes with the others."""


@dataclass(frozen=True, slots=True)
class TrafficOptions:
    """How many requests, and how troubled they are; the same options give the same requests."""

    requests: int = 20_000
    seed: int = 7
    unknown_share: float = 0.3
    """Part of the requests that are about devices the log never saw."""
    tencent_share: float = 0.5
    doubtful_share: float = 0.04
    """Part of the requests that carry, besides, an id of someone else, marked as doubtful."""
    absent_share: float = 0.06
    """Part of the requests that carry an all-zero or empty id besides the real ones."""
    no_id_share: float = 0.005
    ping_share: float = 0.005


class SimulatedId(msgspec.Struct, frozen=True):
    """One device id as a platform spells it."""

    kind: IdKind
    form: IdForm
    value: str
    trusted: bool = True


class SimulatedRequest(msgspec.Struct, frozen=True):
    """One request in no platform's words, with the facts that an answer can be judged by."""

    platform: str
    """`json` or `tencent`."""
    request_id: str
    ids: tuple[SimulatedId, ...]
    os: OperatingSystem
    placement: Placement = Placement.NONE
    """NONE where the platform does not tell."""
    pctr: float | None = None
    is_ping: bool = False
    person: int = NOBODY
    """Whose request it is: an index of Truth.person, or NOBODY."""
    known: bool = False
    """Whether a trusted id of the request occurs in the market's log."""
    doubtful: bool = False
    """Whether an id of the request is marked as doubtful; it belongs to someone else."""


Encoder = Callable[[SimulatedRequest], bytes]
"""Writes a request in a platform's own bytes."""


def simulate_traffic(truth: Truth, options: TrafficOptions) -> Iterator[SimulatedRequest]:
    """Draw requests: popular devices come again and again, some are strangers, some ids are bad."""
    rng = np.random.default_rng([options.seed, 1])
    draws = _draw(truth, options, rng)
    for index in range(options.requests):
        draw = _Draw._make(column[index].item() for column in draws)
        yield _request(truth, draw, f"{options.seed}-{index}")


def encode_traffic(
    requests: Iterable[SimulatedRequest], encoders: Mapping[str, Encoder]
) -> Iterator[tuple[SimulatedRequest, bytes]]:
    """Write each request in the words of its platform; `encoders` has one for each platform."""
    for request in requests:
        yield request, encoders[request.platform](request)


class _Draw(NamedTuple):
    """What chance decides about one request; as columns while it is drawn."""

    row: Any
    """A row of Truth, or NOBODY."""
    other_row: Any
    salt: Any
    os: Any
    tencent: Any
    hashed: Any
    doubtful: Any
    absent: Any
    no_id: Any
    ping: Any
    placement: Any
    pctr: Any


def _draw(truth: Truth, options: TrafficOptions, rng: np.random.Generator) -> _Draw:
    count = options.requests
    seen = np.flatnonzero(truth.seen)
    # Zipf-like: a few devices are asked about again and again, most once or never
    popularity = np.minimum(rng.pareto(1.2, len(seen)) + 0.2, 200.0)
    popular = seen[rng.choice(len(seen), count, p=popularity / popularity.sum())]
    row = np.where(toss(rng, count, options.unknown_share), NOBODY, popular)
    os = rng.choice(list(_OS_SHARES), count, p=list(_OS_SHARES.values()))
    os = np.where(row == NOBODY, os, truth.os[row])
    return _Draw(
        row=row,
        other_row=_strangers_ids(truth, os, rng),
        salt=rng.integers(0, 2**62, count),
        os=os,
        tencent=toss(rng, count, options.tencent_share),
        hashed=toss(rng, count, HASHED_SHARE),
        doubtful=toss(rng, count, options.doubtful_share),
        absent=toss(rng, count, options.absent_share),
        no_id=toss(rng, count, options.no_id_share),
        ping=toss(rng, count, options.ping_share),
        placement=rng.choice(PLACEMENTS, count),
        pctr=np.round(rng.beta(2.0, 60.0, count), 4),
    )


def _strangers_ids(truth: Truth, os: Array, rng: np.random.Generator) -> Array:
    """Draw someone else's second id for each request: a row of Truth."""
    kinds = np.array([kind.value for kind in truth.kind])
    drawn = []
    for kind in (IdKind.IDFA, IdKind.IMEI):
        rows = np.flatnonzero(kinds == kind.value)
        drawn.append(rng.choice(rows if len(rows) else len(truth), len(os)))
    return np.where(os == OperatingSystem.IOS, *drawn)


def _request(truth: Truth, draw: _Draw, request_id: str) -> SimulatedRequest:
    os = OperatingSystem(draw.os)
    trusted = {} if draw.no_id else _phone(truth, draw, os)
    bad = _bad_ids(truth, draw, os, trusted)
    form = IdForm.MD5 if draw.tencent or draw.hashed else IdForm.RAW
    ids = [_written(form, kind, (value, True)) for kind, value in trusted.items()]
    return SimulatedRequest(
        platform="tencent" if draw.tencent else "json",
        request_id=request_id,
        ids=(*ids, *(_written(form, kind, bad_id) for kind, bad_id in bad.items())),
        os=os,
        placement=Placement.NONE if draw.tencent else Placement(draw.placement),
        pctr=None if draw.tencent else draw.pctr,
        is_ping=draw.ping,
        person=NOBODY if draw.row == NOBODY else int(truth.person[draw.row]),
        known=draw.row != NOBODY and not draw.no_id,
        doubtful=not all(good for _, good in bad.values()),
    )


def _phone(truth: Truth, draw: _Draw, os: OperatingSystem) -> dict[IdKind, str]:
    """Give the raw ids of the phone that a request is about."""
    if draw.row == NOBODY:
        digits = f"{draw.salt:016x}{draw.salt ^ 0x5BD1E995:016x}"
        return {kind: spell(kind, digits) for kind in _STRANGER[os]}
    rows = [draw.row]
    first = int(np.searchsorted(truth.person, truth.person[draw.row]))
    if draw.row < first + _SECOND_PHONE:
        last = min(first + _SECOND_PHONE, len(truth))
        rows += [r for r in range(first, last) if truth.person[r] == truth.person[draw.row]]
    ids: dict[IdKind, str] = {}
    for row in rows:
        ids.setdefault(truth.kind[row], truth.raw[row])
    return ids


def _bad_ids(
    truth: Truth, draw: _Draw, os: OperatingSystem, trusted: Mapping[IdKind, str]
) -> dict[IdKind, tuple[str, bool]]:
    """Give ids that say nothing or say it of someone else, of kinds not yet used: value, trusted."""
    bad: dict[IdKind, tuple[str, bool]] = {}
    withheld, other = _WITHHELD[os], truth.kind[draw.other_row]
    if (draw.absent or draw.no_id) and withheld not in trusted:
        bad[withheld] = (_ZEROS[withheld], True)
    if draw.doubtful and other not in (*trusted, *bad):
        bad[other] = (truth.raw[draw.other_row], False)
    return bad


def _written(form: IdForm, kind: IdKind, known: tuple[str, bool]) -> SimulatedId:
    value, trusted = known
    return SimulatedId(kind, form, md5_of(value) if form is IdForm.MD5 else value, trusted)


def encode_json(request: SimulatedRequest) -> bytes:
    """Write a request in the `json` platform's words."""
    return msgspec.json.encode(
        {
            "request_id": request.request_id,
            "device": {"os": request.os.label, "ids": request.ids},
            "context": _context(request),
            "ping": request.is_ping,
        }
    )


def _context(request: SimulatedRequest) -> dict[str, object]:
    context: dict[str, object] = {}
    if request.placement is not Placement.NONE:
        context["placement"] = request.placement.label
    if request.pctr is not None:
        context["pctr"] = request.pctr
    return context
