"""Recorded decisions as columns, for whoever learns from them."""

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from rta_service.domain.decision import Bid, Prediction
from rta_service.domain.decision_record import DecisionRecord
from rta_service.stores.decision_records import Recorded

_Read = Callable[[DecisionRecord], Any]


def _bid(which: Callable[[DecisionRecord], Bid | None], field: str) -> _Read:
    return lambda record: None if (bid := which(record)) is None else getattr(bid, field)


def _pcvr(which: Callable[[DecisionRecord], Prediction | None], field: str) -> _Read:
    return lambda record: None if (pcvr := which(record)) is None else getattr(pcvr, field)


def _ghost(field: str) -> _Read:
    return lambda record: None if record.ghost is None else getattr(record.ghost, field)


def _steered(field: str) -> _Read:
    return lambda record: None if record.steered is None else getattr(record.steered, field)


def _ghost_reason(record: DecisionRecord) -> str | None:
    return None if record.ghost is None else record.ghost.reason.label


def _ghost_bid(record: DecisionRecord) -> Bid | None:
    return None if record.ghost is None else record.ghost.bid


def _ghost_pcvr(record: DecisionRecord) -> Prediction | None:
    return None if record.ghost is None else record.ghost.pcvr


_COLUMNS: Final[tuple[tuple[str, pa.DataType, _Read], ...]] = (
    ("ts_ms", pa.int64(), lambda r: r.ts_ms),
    ("platform", pa.string(), lambda r: r.platform),
    ("request", pa.uint64(), lambda r: r.request),
    ("person", pa.uint64(), lambda r: r.person),
    ("strategy_id", pa.string(), lambda r: r.strategy_id),
    ("participate", pa.bool_(), lambda r: r.participate),
    ("reason", pa.string(), lambda r: r.reason.label),
    ("propensity", pa.float64(), lambda r: r.propensity),
    ("bid_kind", pa.string(), _bid(lambda r: r.bid, "kind")),
    ("bid_value", pa.float64(), _bid(lambda r: r.bid, "value")),
    ("currency", pa.string(), _bid(lambda r: r.bid, "currency")),
    ("p_register", pa.float64(), _pcvr(lambda r: r.pcvr, "register")),
    ("p_trade", pa.float64(), _pcvr(lambda r: r.pcvr, "trade")),
    ("release", pa.string(), lambda r: r.versions.release),
    ("snapshot", pa.string(), lambda r: r.versions.snapshot),
    ("models", pa.string(), lambda r: msgspec.json.encode(r.versions.models, order="sorted")),
    ("strategies", pa.string(), lambda r: r.versions.strategies),
    ("stage", pa.string(), lambda r: r.stage.label),
    ("tier", pa.string(), lambda r: r.tier.label),
    ("arm", pa.string(), lambda r: r.arm),
    ("tag", pa.string(), lambda r: r.tag),
    ("ghost_participate", pa.bool_(), _ghost("participate")),
    ("ghost_reason", pa.string(), _ghost_reason),
    ("ghost_bid_kind", pa.string(), _bid(_ghost_bid, "kind")),
    ("ghost_bid_value", pa.float64(), _bid(_ghost_bid, "value")),
    ("ghost_p_register", pa.float64(), _pcvr(_ghost_pcvr, "register")),
    ("ghost_p_trade", pa.float64(), _pcvr(_ghost_pcvr, "trade")),
    ("steered_version", pa.int64(), _steered("version")),
    ("steered_factor", pa.float64(), _steered("factor")),
    ("steered_density", pa.float64(), _steered("density")),
    ("control_group", pa.bool_(), _steered("control_group")),
    ("unsent_weight", pa.float64(), _steered("unsent")),
)

SCHEMA: Final = pa.schema([(name, kind) for name, kind, _ in _COLUMNS])
"""What a record is in Parquet; absent parts are null."""


def table_of(recorded: Iterable[Recorded]) -> pa.Table:
    """Lay records out as columns, in their order."""
    records = [one.record for one in recorded]
    arrays = [pa.array([read(record) for record in records], kind) for _, kind, read in _COLUMNS]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def parquet_of(recorded: Iterable[Recorded]) -> bytes:
    """Give a whole Parquet file."""
    buffer = BytesIO()
    pq.write_table(table_of(recorded), buffer, compression="zstd")
    return buffer.getvalue()
