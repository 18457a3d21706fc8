"""`rta control`: how costs are held at their targets, and whether that is what events make."""

from typing import Annotated

import typer
from rich.table import Table

from rta_service import wiring
from rta_service.cli.app import app, counting, progress, stdout
from rta_service.cli.options import AsJson, DataDir, RedisUrl, existing, settings_of
from rta_service.cli.release import print_json
from rta_service.domain.errors import InvalidInput

control_app = typer.Typer(help="Cost control: targets, budgets, steps.", no_args_is_help=True)
app.add_typer(control_app, name="control")


@control_app.command()
def status(
    unit: Annotated[
        str | None, typer.Argument(metavar="[STRATEGY@PLATFORM]", help="Show all of this unit.")
    ] = None,
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show each unit's target, cost so far and expected, multiplier, why it moved, and budget."""
    from rta_service.cli.control_view import show_unit, show_units
    from rta_service.domain.clock import SystemClock
    from rta_service.feedback.control_status import ControlStatus
    from rta_service.stores.control_store import ControlStore
    from rta_service.stores.redis import admin_client

    settings = existing(settings_of(data, redis_url))
    with wiring.store_url(settings) as url, admin_client(url) as client:
        store = ControlStore(client, settings.namespace)
        desk = ControlStatus(lambda: store, SystemClock())
        units = desk.units() if unit is None else [desk.unit(unit)]
    if as_json:
        print_json({"units": units} if unit is None else units[0])
    elif unit is not None:
        show_unit(units[0])
    elif units:
        show_units(units)
    else:
        stdout.print(
            "no strategy is under cost control: give one a [strategy.control]",
            markup=False,
            soft_wrap=True,
        )


@control_app.command()
def rebuild(
    units: Annotated[
        list[str] | None, typer.Argument(help="strategy@platform, ...; all units unless named.")
    ] = None,
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild the state of units from events and steps, and compare it to the byte.

    Changes nothing. Exits with 0 when every unit is the same, 1 when one differs.
    """
    from rta_service import wiring_events
    from rta_service.feedback.control_rebuild import rebuild as rebuild_units
    from rta_service.stores.control_store import ControlStore
    from rta_service.stores.ledger import Ledger
    from rta_service.stores.redis import admin_client

    settings = existing(settings_of(data, redis_url))
    path = wiring_events.ledger_path(settings)
    if not path.is_file():
        raise InvalidInput("no events were attributed here yet", str(path))
    with (
        wiring.store_url(settings) as url,
        Ledger(path, is_reader=True) as ledger,
        progress(quiet=as_json) as bars,
    ):
        client = admin_client(url)
        store = ControlStore(client, settings.namespace)
        missing = sorted(set(units or ()) - store.states().keys())
        if missing:
            raise InvalidInput("is no control unit that was ever stepped", missing[0])
        found = rebuild_units(store, ledger, units or (), counting(bars, "reading the feed"))
        client.close()
    if as_json:
        shown = [
            {
                "unit": r.unit_id,
                "version": r.version,
                "steps": r.steps,
                "same": r.is_same,
                "ours": r.is_ours,
            }
            for r in found
        ]
        print_json({"units": shown, "same": all(one.is_same for one in found)})
    else:
        table = Table("unit", "version", "steps done again", "state")
        for one in found:
            said = "the same to the byte" if one.is_same else "[bold red]different[/]"
            said += "" if one.is_ours else " (made by another version of the service)"
            table.add_row(one.unit_id, str(one.version), f"{one.steps:,}", said)
        stdout.print(table if found else "no unit was ever stepped", highlight=False)
    raise typer.Exit(0 if all(one.is_same for one in found) else 1)
