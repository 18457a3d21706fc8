"""Who did it: every distinct id is hashed once, and a person's devices are joined by user id."""

from collections.abc import Iterable
from typing import Any, Final

import ibis
import pyarrow as pa

from rta_service.device_key import canonical_md5
from rta_service.domain.device import IdForm, IdKind
from rta_service.offline import engine

IDS: Final = "ids"
DEVICES: Final = "devices"
_ID: Final = ("device_id", "id_kind", "id_form")


def hash_ids(con: Any, rows: Any) -> Any:
    """Hash each distinct (device_id, id_kind, id_form) once, in Python, not once per row.

    Makes the table of ids: `device` is a dense number of the canonical MD5, null for an absent
    id; `malformed` is true for what calls itself an MD5 and is none.
    """
    # only known kinds and forms: rows with other words are rejected before they need a device
    known = rows.filter(
        rows.device_id.notnull(),
        rows.id_kind.isnull() | rows.id_kind.isin(list(IdKind)),
        rows.id_form.isnull() | rows.id_form.isin(list(IdForm)),
    )
    distinct = known.select(*_ID).distinct().order_by(*_ID).to_pyarrow()
    parts = (distinct[name].to_pylist() for name in _ID)
    md5s = [_canonical(*row) for row in zip(*parts, strict=True)]
    numbers: dict[str, int] = {}
    devices = [None if md5 is None else numbers.setdefault(md5, len(numbers)) for md5 in md5s]
    engine.add_arrow(con, "md5s", _md5_table(numbers))
    return engine.add_arrow(con, IDS, _id_table(distinct, devices))


def join_ids(rows: Any, ids: Any) -> Any:
    """Give each row its `device`, null where the id is absent or unreadable."""
    renamed = ids.rename(the_id="device_id", the_kind="id_kind", the_form="id_form")
    return rows.left_join(
        renamed,
        [
            rows.device_id == renamed.the_id,
            rows.id_kind.coalesce("") == renamed.the_kind,
            rows.id_form.coalesce("") == renamed.the_form,
        ],
    ).drop("the_id", "the_kind", "the_form")


def link_people(con: Any, facts: Any, *, has_users: bool) -> Any:
    """Make the table of devices with their people: device, device_md5, person_id, person.

    A device belongs to the user id of its latest event that carries one (the greatest of several
    in that second), also for what it did before; without any it is a person of its own.
    """
    devices = facts.select("device").distinct().inner_join(engine.table(con, "md5s"), "device")
    people = devices.mutate(person=ibis.literal("d:") + devices.device_md5)
    if has_users:
        owned = people.left_join(_owners(facts), "device").drop("device_right")
        owner = ibis.literal("u:") + owned.user_id
        people = owned.mutate(person=owner.coalesce(owned.person))
    numbered = people.mutate(person_id=ibis.dense_rank().over(order_by=people.person))
    return engine.materialise(
        con, DEVICES, numbered.select("device", "device_md5", "person_id", "person")
    )


def _owners(facts: Any) -> Any:
    signed = facts.filter(facts.user_id.notnull())
    latest = signed.group_by("device").agg(latest=signed.ts_s.max())
    last = signed.inner_join(latest, "device").filter(ibis._.ts_s == ibis._.latest)
    return last.group_by("device").agg(user_id=ibis._.user_id.max())


def _canonical(value: str, kind: str | None, form: str | None) -> str | None:
    return canonical_md5(IdKind(kind) if kind else None, value, IdForm(form) if form else None)


def _md5_table(numbers: dict[str, int]) -> pa.Table:
    return pa.table(
        {
            "device": pa.array(numbers.values(), pa.int64()),
            "device_md5": pa.array(numbers.keys(), pa.string()),
        }
    )


def _id_table(distinct: pa.Table, devices: Iterable[int | None]) -> pa.Table:
    return pa.table(
        {
            "device_id": distinct["device_id"],
            "id_kind": distinct["id_kind"].fill_null(""),
            "id_form": distinct["id_form"].fill_null(""),
            "device": pa.array(devices, pa.int64()),
        }
    )
