"""From a clean log to training rows: what was known at the impression, and what came of it.

A row stands for an exposure, a click, or a step that followed a click (`impressions`). All that is
known of the person is taken as of the impression, the instant at which the service would decide;
also which devices are theirs. Steps without a click before them are left out: no decision led to
them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import ibis
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.errors import InvalidInput
from rta_service.domain.events import Event
from rta_service.domain.funnel import DEFAULT_FUNNEL, HeadSpec, Step
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.domain.user import LifecycleStage
from rta_service.features import Rows, matrix
from rta_service.offline import engine
from rta_service.offline.events import CleanLog
from rta_service.offline.history import record_columns, to_records
from rta_service.offline.thresholds import find_thresholds
from rta_service.offline.tiers import tier_codes
from rta_service.offline.training import impressions
from rta_service.offline.training.dataset import Dataset
from rta_service.offline.training.impressions import CONTEXT, GIVEN
from rta_service.record import RECORD_DTYPE, Records, stage_code

MICROS_PER_CENT: Final = 10_000

_DONE_AT: Final = {
    Step.DOWNLOAD: "downloaded_at",
    Step.ACTIVATE: "activated_at",
    Step.REGISTER: "registered_at",
}
"""Where the record says that a person took a step."""

Column = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """Windows of the joins, in seconds, and the sizes at which rows are sampled by hash."""

    exposure_s: int = 3_600
    """An exposure counts as a click's impression for this long."""
    attribution_s: int = 7 * DAY_S
    """A download, activation or registration counts as a click's for this long."""
    max_rows: int = 1_000_000
    """Of clicks and what followed them: 24 features of a million rows are 192 MB."""
    max_exposures: int = 60_000
    """Beyond this, exposures are sampled by hash, but those that were clicked are all kept: they
    are few, and their records are rebuilt for the clicks anyway."""
    from_s: int = 0
    """Rows of earlier impressions are left out; what they say of the person is not."""
    until_s: int = 2**62
    """Rows of impressions from then on are left out."""


def read_dataset(
    log: CleanLog, options: DatasetOptions, heads: Iterable[HeadSpec] = DEFAULT_FUNNEL
) -> Dataset:
    """Build the rows of all heads from a clean log."""
    events = engine.materialise(log.con, "linked_events", impressions.link(log.events))
    thresholds = _thresholds(events, log.as_of_s)
    clicks = engine.materialise(log.con, "clicks", impressions.clicks(events, options.exposure_s))
    rows, shares = _all_rows(events, clicks, tuple(heads), options)
    labelled = impressions.goals(events, rows, clicks)
    labelled = engine.materialise(log.con, "labelled_rows", labelled)
    subjects = engine.materialise(log.con, "subjects", _subjects(labelled))
    columns = _columns(_ordered(labelled, subjects))
    records, tiers = _records(events, subjects, thresholds)
    records = records[columns["subject"]]
    return Dataset(
        matrix=matrix(Rows(records, columns["as_of_s"], *(columns[name] for name in CONTEXT))),
        given=columns["given"],
        t_s=columns["t_s"],
        as_of_s=columns["as_of_s"],
        clicked_s=columns["clicked_s"],
        amounts=columns["cents"] * MICROS_PER_CENT,
        drawn=columns["drawn"] > 0,
        goal_s={
            Step.CLICK: columns["click_s"],
            Step.TRADE: columns["next_trade_s"],
            **{step: columns[impressions.first(step)] for step in _DONE_AT},
        },
        known_done={step: records[name] > 0 for step, name in _DONE_AT.items()},
        stages=_stages(records, columns["as_of_s"], thresholds),
        tiers=tiers[columns["subject"]],
        end_s=log.as_of_s,
        unattributed=shares.unattributed,
        sampled_share=shares.followed,
        exposures_share=shares.exposures,
        thresholds=thresholds,
    )


class _Shares(NamedTuple):
    """What became of the rows that the log holds."""

    followed: float
    """Share of the clicks and what followed them that was kept."""
    exposures: float
    """Share of the exposures without a click that was kept."""
    unattributed: int


def _all_rows(
    events: Any, clicks: Any, heads: tuple[HeadSpec, ...], options: DatasetOptions
) -> tuple[Any, _Shares]:
    """Make the rows that the heads ask about, sampled where there are too many."""
    con = events.get_backend()
    given = {spec.given for spec in heads}
    kinds = [clicks]
    unattributed = 0
    for step in sorted(given - {Step.EXPOSURE, Step.CLICK}, key=list(Step).index):
        within_s = _within_s(step, heads, options)
        led_to = impressions.following(events, clicks, step, within_s)
        kinds.append(engine.materialise(con, f"followed_{step.value}", led_to))
        if step is not Step.TRADE:
            done = events.filter(events.event == GIVEN[step].value).select("person_id", "ts_s")
            unattributed += _count(done.distinct()) - _count(kinds[-1])
    rows = _between(ibis.union(*kinds) if kinds[1:] else clicks, options)
    share = min(1.0, options.max_rows / max(_count(rows), 1))
    rows = impressions.sample(rows, share)
    shown_share = 1.0
    if Step.EXPOSURE in given:
        shown = engine.materialise(con, "shown", _between(impressions.exposures(events), options))
        shown_share = min(1.0, options.max_exposures / max(_count(shown), 1))
        rows = ibis.union(rows, impressions.sample_unclicked(shown, clicks, shown_share))
    return engine.materialise(con, "all_rows", rows), _Shares(share, shown_share, unattributed)


def _within_s(step: Step, heads: tuple[HeadSpec, ...], options: DatasetOptions) -> int:
    """Say how long after a click a step counts as led to by it; trades as their heads say."""
    if step is not Step.TRADE:
        return options.attribution_s
    return max(round(spec.window_days * DAY_S) for spec in heads if spec.given is step)


def _between(rows: Any, options: DatasetOptions) -> Any:
    return rows.filter(rows.as_of_s >= options.from_s, rows.as_of_s < options.until_s)


def _subjects(rows: Any) -> Any:
    """Number the distinct pairs of device and instant: one record each, whatever hangs on it."""
    pairs = rows.select("person_id", "device", "as_of_s").distinct()
    order = [pairs.as_of_s, pairs.device]
    return pairs.mutate(subject=ibis.row_number().over(order_by=order))


def _ordered(rows: Any, subjects: Any) -> Any:
    joined = rows.inner_join(subjects.drop("person_id"), ["device", "as_of_s"])
    return joined.order_by("as_of_s", "t_s", "device", "given")


def _records(events: Any, subjects: Any, thresholds: Thresholds | None) -> tuple[Records, Column]:
    """Rebuild the record of every subject through the codec; zeros where nothing came before.

    And its ValueTier code, UNKNOWN (0) where nothing came before or nothing cuts tiers.
    """
    columns = _columns(record_columns(_seen_by(events, subjects)))
    records = np.zeros(_count(subjects), dtype=RECORD_DTYPE)
    records[columns["subject"]] = to_records(columns)
    tiers = np.zeros(len(records), dtype=np.int64)
    if thresholds is not None:
        tiers[columns["subject"]] = tier_codes(columns, thresholds)
    return records, tiers


def _seen_by(events: Any, subjects: Any) -> Any:
    """Give each subject its device's events, and those of devices known to be the same person's.

    People who register link their devices, so a record that joined them before the log had told
    would give the registration away.
    """
    links = events.select(linked=events.device, own_link_s=events.linked_s).distinct()
    subjects = subjects.left_join(links, subjects.device == links.linked).drop("linked")
    pairs = events.inner_join(subjects.rename(asked="device"), "person_id")
    both_known = (pairs.linked_s < pairs.as_of_s) & (pairs.own_link_s < pairs.as_of_s)
    return pairs.filter((pairs.device == pairs.asked) | both_known)


def _thresholds(events: Any, as_of_s: int) -> Thresholds | None:
    """Cut stages and tiers as a snapshot of the log's end would; None where the log can't."""
    paid = events.filter(events.event == Event.PAY.value).select("person_id").distinct()
    if not _count(paid):
        return None
    payers = events.semi_join(paid, "person_id")
    features = record_columns(payers.mutate(subject=payers.person_id, as_of_s=as_of_s))
    features = engine.materialise(events.get_backend(), "payers", features)
    try:
        return find_thresholds(events, features, as_of_s)
    except InvalidInput:
        return None


def _stages(records: Records, as_of_s: Column, thresholds: Thresholds | None) -> Column:
    """Derive each row's stage as the service would; UNKNOWN without a record or thresholds."""
    unknown = np.full(len(records), int(LifecycleStage.UNKNOWN))
    if thresholds is None:
        return unknown
    idle_s = as_of_s - records["last_active_at"].astype(np.int64)
    codes = stage_code(idle_s, records["orders"].astype(np.int64), thresholds)
    return np.where(records["version"] > 0, codes, unknown)


def _columns(table: Any) -> dict[str, Column]:
    """Pull a table of integers into memory, a numpy column each."""
    pulled = table.to_pyarrow()
    return {
        name: pulled[name].to_numpy(zero_copy_only=False).astype(np.int64)
        for name in pulled.column_names
    }


def _count(table: Any) -> int:
    return int(engine.fetch(table.agg(n=table.count()))[0]["n"])
