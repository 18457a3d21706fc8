"""How everything in the store is named: one namespace is one advertiser.

{ns}:p1:<snapshot>:<bucket hex>   hash: 8-byte device key -> 64-byte record, and SENTINEL; expires
{ns}:p1:<snapshot>:manifest       the manifest, set last: a snapshot without it is not loaded; expires
{ns}:d1:<day>:<bucket hex>        hash: 8-byte device key -> 64-byte delta of that UTC day (counted
                                  from 1970), SENTINEL -> id of the last entry in it; expires
{ns}:p1:lock, {ns}:p1:fence       who is loading now, and the count of loaders so far
{<ns>}:r1:current                 the id of the release that decides
{<ns>}:r1:release:<id>            a release as JSON, never changed
{<ns>}:r1:history                 list of release ids, newest first
{<ns>}:r1:strategies:<id>         strategies text by its hash, never changed
{<ns>}:r1:staged                  parts kept until there is a first release
{<ns>}:r1:audit                   list of `<link> <entry>`, oldest first; only ever grows
{<ns>}:r1:proposed                the id of the release that workers should make ready; expires
{<ns>}:r1:proposal:<id>           that release as JSON; expires, or becomes release:<id>
{<ns>}:r1:prepared:<id>           hash: worker -> "" for ready, or why it refuses; expires
{<ns>}:r1:idem:<hash>              a change's answer, by its sender and key; a day
{<ns>}:r1:pending                  set of ids of wishes that wait for a second person
{<ns>}:r1:pending:<id>             such a wish as JSON; a day
{<ns>}:r1:workers                 hash: worker -> what it decides by and when it was seen, as JSON
{<ns>}:e1:log                     stream of events as accepted, sealed, until all groups have done them
{<ns>}:e1:seen:<day>:<bucket hex> set of 12-byte hashes of the ids of events that happened on that
                                  UTC day (counted from 1970); expires
{<ns>}:e1:counts                  hash: how many events were `accepted`, how many a `duplicate`, ever
{<ns>}:e1:touch                   counts rounds of making writes durable
{<ns>}:e1:decisions               stream of recorded decisions, the newest so many
{<ns>}:e1:poison                  stream of events that a group could not do: group, id, reason, body
{<ns>}:e1:lease:<work>            who may do a work, such as `consume`; expires

{<ns>}:c1:...                     cost control; `control_store` names these keys

What is known of models on trial lies under {<ns>}:r1 too: `trial_store` and `autopilot_store` name
those keys.

p1, d1, r1, e1 and c1 are layout versions: another layout gets another number, so that both can live
side by side. The braces are literal: they keep a namespace's releases, events and cost control in
one cluster slot, which the scripts need. Buckets, of snapshots and of deltas, carry none and spread over the
whole cluster.
"""

import re
from typing import Final

from rta_service.domain.errors import InvalidInput

SENTINEL: Final = b"_"
"""A field of every bucket, also of an empty one: tells an unknown device from a lost bucket."""

SENTINEL_VALUE: Final = b"1"

DELTA_BUCKET_BITS: Final = 14
"""Whatever a snapshot has: 2 million devices a day before its small hashes outgrow 128 fields."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def is_plain(word: str) -> bool:
    """Say whether a word may become part of a key."""
    return _PLAIN.fullmatch(word) is not None


def checked(word: str, what: str) -> str:
    """Pass on a word that may become part of a key; raises InvalidInput for any other."""
    if not is_plain(word):
        raise InvalidInput(
            f"{word!r} must be 1 to 100 letters, digits, '_', '.' or '-', beginning with "
            "a letter or digit",
            what,
        )
    return word


def bucket_prefix(namespace: str, snapshot_id: str) -> bytes:
    """Give what the names of a snapshot's buckets begin with; the bucket in hex follows."""
    return f"{checked(namespace, 'namespace')}:p1:{checked(snapshot_id, 'snapshot id')}:".encode()


def bucket_name(prefix: bytes, bucket: int) -> bytes:
    """Name one bucket of a snapshot."""
    return b"%b%x" % (prefix, bucket)


def manifest_name(namespace: str, snapshot_id: str) -> bytes:
    """Name the key that says a snapshot is completely loaded."""
    return bucket_prefix(namespace, snapshot_id) + b"manifest"


def delta_prefix(namespace: str, day: int) -> bytes:
    """Give what the names of a day's delta buckets begin with; the day counts from 1970, UTC."""
    return f"{checked(namespace, 'namespace')}:d1:{day}:".encode()


def load_name(namespace: str, part: str) -> str:
    """Name the loader's `lock` or `fence`."""
    return f"{checked(namespace, 'namespace')}:p1:{part}"


def release_name(namespace: str, part: str) -> str:
    """Name a key of the releases: `current`, `history`, `changed`, `release:<id>`, ..."""
    return f"{{{checked(namespace, 'namespace')}}}:r1:{part}"


def event_name(namespace: str, part: str) -> str:
    """Name a key of the events: `log`, `counts`, `touch`, `poison`, ..., or what sets of ids begin
    with, `seen`."""
    return f"{{{checked(namespace, 'namespace')}}}:e1:{part}"


def control_name(namespace: str, part: str) -> str:
    """Name a key of cost control: `orders`, `state`, `feed`, ..."""
    return f"{{{checked(namespace, 'namespace')}}}:c1:{part}"
