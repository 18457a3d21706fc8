"""`rta decisions`: what was kept of decisions, as a file to learn from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from rta_service import wiring
from rta_service.cli.app import app, stdout
from rta_service.cli.options import AsJson, DataDir, RedisUrl, existing, settings_of
from rta_service.cli.release import print_json
from rta_service.domain.errors import InvalidInput

if TYPE_CHECKING:
    from rta_service.stores.decision_records import DecisionRecordLog, Recorded

decisions_app = typer.Typer(help="Decisions that were recorded whole.", no_args_is_help=True)
app.add_typer(decisions_app, name="decisions")

_PAGE: Final = 5_000


@decisions_app.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="A Parquet file to write.")],
    drop: Annotated[
        bool, typer.Option(help="Take what was written out of the store afterwards.")
    ] = False,
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write all recorded decisions to a Parquet file, oldest first."""
    from rta_service.feedback.decision_export import parquet_of
    from rta_service.stores.decision_records import DecisionRecordLog
    from rta_service.stores.whole_files import write_whole

    if out.exists():
        raise InvalidInput("exists already: name another file", str(out))
    with wiring.open_shelf(existing(settings_of(data, redis_url))) as shelf:
        log = DecisionRecordLog(shelf.client, shelf.namespace)
        found = _all(log)
        write_whole(out, parquet_of(found))
        # what came meanwhile stays: entries before the next possible id
        dropped = log.trim(_after(found[-1].entry_id)) if drop and found else 0
    if as_json:
        print_json({"file": str(out), "decisions": len(found), "dropped": dropped})
        return
    more = f"; {dropped:,} taken out of the store" if drop else ""
    stdout.print(f"{len(found):,} decisions in {out}{more}", markup=False, highlight=False)


def _all(log: "DecisionRecordLog") -> "list[Recorded]":
    found: list[Recorded] = []
    while page := log.read(found[-1].entry_id if found else "0", _PAGE):
        found += page
    return found


def _after(entry_id: str) -> str:
    moment, _, number = entry_id.partition("-")
    return f"{moment}-{int(number) + 1}"
