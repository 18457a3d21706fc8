"""The 80/20 cuts, as integers: nearest-rank quantiles of histograms, equal on every engine."""

from typing import Any, Final, NamedTuple

import ibis

from rta_service.domain.errors import InvalidInput
from rta_service.domain.events import Event
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.offline.engine import fetch


class Share(NamedTuple):
    """A quantile as a fraction of integers, so that no engine rounds it."""

    part: int
    whole: int


EIGHTY: Final = Share(4, 5)
_TIER_S: Final = Share(19, 20)
_TIER_A: Final = EIGHTY
_TIER_B: Final = Share(1, 2)


def quantile(values: Any, share: Share) -> int | None:
    """Find the smallest `value` with at least this share of the `weight` at or below it.

    Nearest rank on a histogram of integers; None when there are no values.
    """
    histogram = values.group_by("value").agg(n=values.weight.sum())
    summed = histogram.mutate(
        running=histogram.n.sum().over(ibis.cumulative_window(order_by=histogram.value)),
        total=histogram.n.sum().over(),
    )
    reached = summed.filter(summed.running * share.whole >= summed.total * share.part)
    [found] = fetch(reached.agg(cut=reached.value.min()))
    return None if found["cut"] is None else int(found["cut"])


def launch_gaps(facts: Any) -> Any:
    """Give the seconds between consecutive launches of each person, same instants left out."""
    launches = facts.filter(facts.event == Event.LAUNCH.value).select("person_id", "ts_s")
    before = launches.ts_s.lag().over(group_by="person_id", order_by="ts_s")
    gaps = launches.select(value=launches.ts_s - before, weight=1)
    return gaps.filter(gaps.value > 0)


def pay_gaps(facts: Any) -> Any:
    """Give the seconds from each order's first payment to that person's next, later launch.

    Orders without one are left out (the mode `returners`); weight is the number of orders.
    """
    payments = _payments(facts)
    launches = facts.filter(facts.event == Event.LAUNCH.value).semi_join(payments, "person_id")
    moments = payments.mutate(launched=ibis.null("int64")).union(
        launches.select(
            "person_id", "ts_s", orders=ibis.literal(0, "int64"), launched=launches.ts_s
        )
    )
    # within a second launches stand before payments, so those that follow are strictly later
    order = ["ts_s", moments.launched.isnull()]
    later = moments.launched.min().over(group_by="person_id", order_by=order, rows=(1, None))
    gaps = moments.select(value=later - moments.ts_s, weight=moments.orders)
    return gaps.filter(gaps.weight > 0, gaps.value.notnull())


def _payments(facts: Any) -> Any:
    """One row per person and instant with the number of orders that began to be paid then."""
    pays = facts.filter(facts.event == Event.PAY.value)
    with_order = pays.filter(pays.order_id.notnull())
    firsts = with_order.group_by("person_id", "order_id").agg(ts_s=with_order.ts_s.min())
    single = pays.filter(pays.order_id.isnull()).select("person_id", "ts_s")
    all_orders = firsts.select("person_id", "ts_s").union(single)
    return all_orders.group_by("person_id", "ts_s").agg(orders=all_orders.count())


def find_thresholds(facts: Any, features: Any, as_of_s: int) -> Thresholds:
    """Find all cuts of a log.

    `facts` are events with person_id, `features` the columns of history.record_columns with one
    row per person. Raises InvalidInput when the log has no payments, no launches or no payment
    that was followed by a launch, saying what to do.
    """
    payers = features.filter(features.orders > 0)
    recency = _cut(payers, as_of_s - payers.last_pay_at, EIGHTY)
    if recency is None:
        raise InvalidInput(
            "the log has no payments: nothing to cut by. Name the event word that means pay in"
            " [events] of --columns, add an older log as a further input, or keep an earlier"
            " snapshot's (--keep-thresholds)"
        )
    churned = quantile(launch_gaps(facts), EIGHTY)
    silent = quantile(pay_gaps(facts), EIGHTY)
    if churned is None or silent is None:
        lacks = "nobody launched twice" if churned is None else "no payment is followed by a launch"
        raise InvalidInput(
            f"{lacks}: idle time can't be cut. If the log has no launches of its own, say which"
            ' events show that a person came, such as launch_events = ["pay"] in [rules] of'
            " --columns; or add an older log as a further input, or keep an earlier snapshot's"
            " (--keep-thresholds)"
        )
    return Thresholds(
        silent_s=silent,
        churned_s=churned,
        recency_s=recency,
        frequency=_cut(payers, payers.orders, EIGHTY) or 0,
        monetary_cents=_cut(payers, payers.cents, EIGHTY) or 0,
        tier_s_cents=_cut(payers, payers.cents, _TIER_S) or 0,
        tier_a_cents=_cut(payers, payers.cents, _TIER_A) or 0,
        tier_b_cents=_cut(payers, payers.cents, _TIER_B) or 0,
    )


def check_order(thresholds: Thresholds, launch_events: tuple[str, ...]) -> str | None:
    """Judge silent against churned: None when sound, a warning when the log can't tell them apart.

    Churned wins over silent, so silent at or beyond churned empties the silent stage. Where
    payments count as launches, both cuts measure the same gaps, which is the log's nature and not
    an error. Raises InvalidInput for a log with launches of its own.
    """
    found = (
        f"silent is {thresholds.silent_s / DAY_S:.2f} days and churned"
        f" {thresholds.churned_s / DAY_S:.2f} days"
    )
    if Event.PAY in launch_events:
        return (
            f"payments count as launches, so both cuts measure the same gaps ({found}) and hardly"
            " anybody is silent before being churned"
        )
    if thresholds.silent_s < thresholds.churned_s:
        return None
    raise InvalidInput(
        f"{found}: nobody would be silent. Check that launches are complete, keep the thresholds"
        " of an earlier snapshot (--keep-thresholds), or --allow-inverted"
    )


def _cut(rows: Any, value: Any, share: Share) -> int | None:
    return quantile(rows.select(value=value, weight=1), share)
