"""`rta strategies`: check, publish and show what growth teams write."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from rta_service import wiring
from rta_service.cli.app import app, stdout
from rta_service.cli.options import (
    AsJson,
    DataDir,
    RedisUrl,
    Why,
    existing,
    now_ms,
    settings_of,
    who,
)
from rta_service.cli.release import print_json, read_text, report_change
from rta_service.domain.errors import InvalidInput
from rta_service.online.reach import Reach
from rta_service.online.strategy_file import parse
from rta_service.releasing.publishing import Change, publish as publish_release
from rta_service.releasing.weighing import check_strategies

strategies_app = typer.Typer(help="Whom to bid for, and how.", no_args_is_help=True)
app.add_typer(strategies_app, name="strategies")

File = Annotated[Path, typer.Argument(help="A strategies file (TOML).")]


@strategies_app.command()
def check(
    file: File, data: DataDir = None, redis_url: RedisUrl = None, as_json: AsJson = False
) -> None:
    """Check a strategies file, and show whom it reaches on the current snapshot."""
    strategies = parse(read_text(file), str(file))
    with wiring.open_shelf(settings_of(data, redis_url)) as shelf:
        reaches = check_strategies(shelf, strategies, now_ms() // 1000)
    if as_json:
        ids = [s.strategy_id for s in strategies]
        shown = {name: reach._asdict() for name, reach in reaches.items()}
        print_json({"strategies": ids, "reach": shown or None})
        return
    stdout.print(f"{file}: {len(strategies)} strategies, no errors", markup=False)
    if not reaches:
        stdout.print("no snapshot is published yet, so there is nothing to measure their reach on")
    for name, reach in reaches.items():
        _show_reach(name, reach)


@strategies_app.command()
def publish(
    file: File,
    data: DataDir = None,
    redis_url: RedisUrl = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """Let a strategies file decide: checked, weighed on the snapshot, switched at once."""
    text = read_text(file)
    parse(text, str(file))
    with wiring.open_shelf(settings_of(data, redis_url)) as shelf:
        change = Change(strategies=text, note=f"strategies {file.name}", who=who(), why=why)
        outcome = publish_release(shelf, change, now_ms())
    report_change(outcome, as_json=as_json)


@strategies_app.command()
def show(data: DataDir = None, redis_url: RedisUrl = None) -> None:
    """Print the strategies that decide now, as they were published."""
    settings = existing(settings_of(data, redis_url))
    with wiring.open_shelf(settings) as shelf:
        current = shelf.releases.current()
        text = shelf.releases.get_strategies(current.strategies_id) if current else None
    if text is None:
        raise InvalidInput(f"no release was published yet ({settings.place})", "strategies")
    typer.echo(text, nl=False)


def _show_reach(name: str, reach: Reach) -> None:
    share = reach.accepted / reach.devices if reach.devices else 0.0
    table = Table(title=f"{name}: wants {share:.1%} of {reach.devices} sampled devices")
    for column in ("by", "", "wanted", "of"):
        table.add_column(column, justify="right" if column in ("wanted", "of") else "left")
    for by, counts in (("stage", reach.by_stage), ("tier", reach.by_tier)):
        for word, (accepted, total) in counts.items():
            table.add_row(by, word, str(accepted), str(total))
    for reason, count in reach.reasons.items():
        table.add_row("reason", reason, str(count), "")
    stdout.print(table)
