"""The command tree and the one place that turns errors into messages and exit codes."""

import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rta_service import __version__
from rta_service.domain.errors import (
    DegradedError,
    InvalidInput,
    InvalidRequest,
    NotAllowed,
    RTAError,
)

EXIT_WRONG_INPUT = 2
EXIT_FAILED = 3

LIGHTGBM_LIBRARY = re.compile(r"lib[gi]?omp|lib_lightgbm")

app = typer.Typer(
    name="rta",
    help="Answer ad platforms' RTA requests from user value, predictions and oCPX bids.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)

stderr = Console(stderr=True)
stdout = Console(width=None if sys.stdout.isatty() else 120)  # a pipe need not cut at 80

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rta-service {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Answer ad platforms' RTA requests from user value, predictions and oCPX bids."""


def progress(*, quiet: bool = False) -> Progress:
    """Show bars on standard error, so that standard output stays clean for results."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=stderr,
        disable=quiet,
        transient=not stderr.is_terminal,
    )


def counting(bars: Progress, description: str) -> Callable[[int, int], None]:
    """Add a bar that is moved by calls with (done, total)."""
    task = bars.add_task(description, total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)


def run(command: Callable[[], Any]) -> int:
    """Run the command line and give its exit code; our own errors become one clear line."""
    try:
        command()
    except (InvalidInput, InvalidRequest, NotAllowed) as error:
        stderr.print(
            f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True
        )
        return EXIT_WRONG_INPUT
    except (DegradedError, RTAError) as error:
        stderr.print(
            f"failed: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True
        )
        return EXIT_FAILED
    except OSError as error:
        if not LIGHTGBM_LIBRARY.search(str(error)):
            raise
        stderr.print(
            f"failed: LightGBM's system library is missing ({error}). Debian, Ubuntu: apt-get "
            "install libgomp1; Fedora: dnf install libgomp; macOS: brew install libomp",
            style="bold red",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return EXIT_FAILED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def main() -> None:
    """Enter from the console script."""
    sys.exit(run(app))
