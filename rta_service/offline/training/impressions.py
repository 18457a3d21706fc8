"""What a training row stands for: an exposure, a click, or a step that followed a click.

All of it is engine work on a clean log. Each row has its impression's instant `as_of_s`, at which
the service would have decided, and the context (platform, system, placement) it would have known.
"""

from collections.abc import Mapping
from typing import Any, Final

import ibis

from rta_service.domain.device import OperatingSystem, Placement
from rta_service.domain.events import Event
from rta_service.domain.funnel import Step
from rta_service.domain.platform import PLATFORM_CODES

GIVEN: Final = {
    Step.EXPOSURE: Event.AD_EXPOSURE,
    Step.CLICK: Event.AD_CLICK,
    Step.DOWNLOAD: Event.DOWNLOAD,
    Step.ACTIVATE: Event.ACTIVATE,
    Step.REGISTER: Event.REGISTER,
    Step.TRADE: Event.PAY,
}
"""The event that a row of each kind stands for; of trades, payments that moved money."""

STEP_CODES: Final = {step: code for code, step in enumerate(GIVEN)}

CONTEXT: Final = ("platform", "os", "placement")
_KEYS: Final = ("person_id", "t_s", "device", "as_of_s", *CONTEXT)
ROW: Final = (*_KEYS, "clicked_s", "cents", "given", "drawn")
"""The columns of all rows: `clicked_s` is the click's instant, `cents` the money of a trade.
`drawn` rows are a sample of their kind, whatever came of them; the others were kept for their
outcome."""

_HASH_STEPS: Final = 1_000_003


def link(events: Any) -> Any:
    """Add `linked_s`, when the log first told whose the event's device is; null for never."""
    signed = events.filter(ibis.literal("u:") + events.user_id == events.person)
    links = signed.group_by(owned=signed.device).agg(linked_s=signed.ts_s.min())
    return events.left_join(links, events.device == links.owned).drop("owned")


def exposures(events: Any) -> Any:
    """One row per person and second with an exposure; the impression is the exposure itself."""
    shown = _with_context(events, Event.AD_EXPOSURE)
    return _rows(shown.mutate(as_of_s=shown.t_s, clicked_s=shown.t_s), Step.EXPOSURE)


def clicks(events: Any, exposure_s: int) -> Any:
    """One row per person and second with a click; its impression is the latest exposure.

    Of those within `exposure_s` before it; the click itself where there is none.
    """
    clicked = _with_context(events, Event.AD_CLICK)
    exposed = events.filter(events.event == Event.AD_EXPOSURE.value)
    shown = exposed.select(shown_to=exposed.person_id, shown_s=exposed.ts_s)
    pairs = clicked.left_join(
        shown,
        [
            clicked.person_id == shown.shown_to,
            shown.shown_s <= clicked.t_s,
            shown.shown_s >= clicked.t_s - exposure_s,
        ],
    )
    latest = pairs.group_by([name for name in _KEYS if name != "as_of_s"]).agg(
        as_of_s=ibis.coalesce(pairs.shown_s.max(), pairs.t_s.max())
    )
    return _rows(latest.mutate(clicked_s=latest.t_s), Step.CLICK)


def following(events: Any, click_rows: Any, given: Step, within_s: int) -> Any:
    """One row per step that a click led to, with the impression and context of the latest one."""
    done = events.filter(events.event == GIVEN[given].value)
    if given is Step.TRADE:
        done = done.filter(done.cents > 0)
    # through a float, since DuckDB's sum is a 128-bit number, which Ibis takes for 64-bit already
    paid = done.cents.sum().cast("float64").cast("int64")
    done = done.group_by(doer=done.person_id, done_s=done.ts_s).agg(paid=paid)
    pairs = done.inner_join(
        click_rows.drop("cents", "given", "drawn"),
        [
            done.doer == click_rows.person_id,
            click_rows.t_s <= done.done_s,
            click_rows.t_s >= done.done_s - within_s,
        ],
    )
    last = {name: pairs[name].argmax(pairs.t_s) for name in (*_KEYS[2:], "clicked_s")}
    latest = pairs.group_by("person_id", "done_s").agg(**last, cents=pairs.paid.max())
    return _rows(latest.rename(t_s="done_s"), given)


def _with_context(events: Any, word: Event) -> Any:
    """Join the rows of one person and second; a missing word is 0, one we don't know is other."""
    found = events.filter(events.event == word.value)
    systems = {kind.label: kind for kind in OperatingSystem}
    places = {kind.label: kind for kind in Placement}
    return found.group_by("person_id", t_s=found.ts_s).agg(
        device=found.device.min(),
        platform=_code(found.channel, PLATFORM_CODES, 0).max(),
        os=_code(found.os, systems, 0).max(),
        placement=_code(found.placement, places, Placement.OTHER).max(),
    )


def _code(words: Any, codes: Mapping[str, int], other: int) -> Any:
    known = [(words.lower() == word, ibis.literal(int(code))) for word, code in codes.items()]
    return ibis.cases((words.isnull(), ibis.literal(0)), *known, else_=int(other)).cast("int64")


def _rows(table: Any, given: Step) -> Any:
    code = ibis.literal(STEP_CODES[given]).cast("int64")
    if "cents" not in table.columns:
        table = table.mutate(cents=ibis.literal(0).cast("int64"))
    return table.mutate(given=code, drawn=ibis.literal(1).cast("int64")).select(*ROW)


def sample(rows: Any, share: float) -> Any:
    """Keep a share of the rows, the same ones every time and whatever came of them."""
    return rows if share >= 1.0 else rows.filter(_is_drawn(rows, share))


def sample_unclicked(shown: Any, click_rows: Any, share: float) -> Any:
    """Keep a share of the exposures, and all that were the impression of a click."""
    seen = _seen_clicks(click_rows)
    pairs = shown.left_join(seen, [shown.person_id == seen.clicker, shown.as_of_s == seen.seen_s])
    pairs = pairs.mutate(drawn=_is_drawn(pairs, share).ifelse(1, 0).cast("int64"))
    return pairs.filter((pairs.drawn == 1) | pairs.click_s.notnull()).select(*ROW)


def _is_drawn(rows: Any, share: float) -> Any:
    mixed = (rows.person_id * 2_654_435_761 + rows.t_s * 40_503) % _HASH_STEPS
    return mixed < int(share * _HASH_STEPS)


def _seen_clicks(click_rows: Any) -> Any:
    """Give the impressions that a click followed, with its instant."""
    return click_rows.group_by(clicker=click_rows.person_id, seen_s=click_rows.as_of_s).agg(
        click_s=click_rows.t_s.min()
    )


def goals(events: Any, rows: Any, click_rows: Any) -> Any:
    """Add when the goals happened, 0 for never.

    `first_download_s`, `first_activate_s`, `first_register_s`: the person's first.
    `next_trade_s`: the first payment or sale after t_s. `click_s`: of an exposure that was the
    impression of a click.
    """
    once = (Step.DOWNLOAD, Step.ACTIVATE, Step.REGISTER)
    steps = events.filter(events.event.isin([GIVEN[step].value for step in once]))
    firsts = steps.group_by(doer=steps.person_id).agg(
        **{first(step): steps.ts_s.min(where=steps.event == GIVEN[step].value) for step in once}
    )
    rows = rows.left_join(firsts, rows.person_id == firsts.doer).drop("doer")
    seen = _seen_clicks(click_rows)
    rows = rows.left_join(seen, [rows.person_id == seen.clicker, rows.as_of_s == seen.seen_s])
    rows = rows.drop("clicker", "seen_s")
    names = [*(first(step) for step in once), "click_s"]
    rows = rows.mutate(**{name: rows[name].coalesce(0) for name in names})
    traded = events.filter(events.event.isin([Event.PAY.value, Event.SOLD.value]))
    trades = traded.select(trader=traded.person_id, trade_s=traded.ts_s).distinct()
    pairs = rows.left_join(trades, [rows.person_id == trades.trader, trades.trade_s > rows.t_s])
    return pairs.group_by(*ROW, *names).agg(next_trade_s=pairs.trade_s.min().coalesce(0))


def first(step: Step) -> str:
    """Name the column of a step that counts once a person."""
    return f"first_{step.value}_s"
