"""Which rows of a log are copies of others: an event counts once, in whichever inputs it stands."""

from collections import Counter
from typing import Any

import ibis

from rta_service.offline.engine import fetch
from rta_service.offline.log_rules import Skip


def once(good: Any, skipped: Counter[str], *, has_archive: bool) -> Any:
    """Keep the earliest of the rows that share an event id, and count the others as duplicates.

    In an archive a row stands for each of an event's ids, so there it is the earliest of those that
    share the device too; and what an archive has is not taken from elsewhere, where it stands under
    one id only. Rows without an event id all stay.
    """
    if has_archive:
        good = _unless_archived(good, skipped)
        each = good.event_id + ibis.literal("/") + good.device.cast("string")
        good = good.mutate(named=ibis.cases((good.archived, each), else_=good.event_id))
    else:
        good = good.mutate(named=good.event_id)
    [found] = fetch(good.agg(ids=good.named.count(), kinds=good.named.nunique()))
    if found["ids"] == found["kinds"]:
        return good.drop("named")
    skipped[Skip.DUPLICATE] += found["ids"] - found["kinds"]
    order = ["ts_s", "device", "event", "cents", "order_id"]
    ranked = good.mutate(copy=ibis.row_number().over(group_by="named", order_by=order))
    return ranked.filter(ranked.named.isnull() | (ranked.copy == 0)).drop("copy", "named")


def _unless_archived(good: Any, skipped: Counter[str]) -> Any:
    archived = good.filter(good.archived).select("event_id").distinct()
    others = good.filter(~good.archived)
    again = others.semi_join(archived, "event_id")
    copies = int(again.count().to_pyarrow().as_py())
    if not copies:
        return good
    skipped[Skip.DUPLICATE] += copies
    return good.filter(good.archived).union(others.anti_join(archived, "event_id"))
