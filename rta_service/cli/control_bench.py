"""`rta control bench`: the cost controller against its baselines, in the wind tunnel."""

from pathlib import Path
from typing import Annotated

import typer

from rta_service.cli.app import counting, progress, stdout
from rta_service.cli.control import control_app
from rta_service.cli.options import AsJson
from rta_service.cli.release import print_json


@control_app.command()
def bench(
    quick: Annotated[
        bool, typer.Option("--quick", help="40 campaigns of one seed instead of 200 of five.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option(help="Also write an HTML page with a few campaigns' paths.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes to play in.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Measure the cost controller against T x p, a tuned PID and the best multiplier.

    Exits with 1 if a baseline beats it anywhere: as near its target and with as many conversions.
    """
    from dataclasses import replace

    from rta_service.demo.control_bench import playing
    from rta_service.demo.control_bench.page import page_of
    from rta_service.demo.control_bench.tables import shown
    from rta_service.demo.control_bench.verdict import document_of, judge

    size = replace(playing.QUICK if quick else playing.Size(), processes=processes)
    with progress(quiet=as_json) as bars:
        outcomes = playing.play(size, counting(bars, "tuning the PID, then playing campaigns"))
    verdict = judge(outcomes)
    if page is not None:
        page.write_text(page_of(verdict, outcomes), encoding="utf-8")
    if as_json:
        print_json(document_of(verdict))
    else:
        for part in shown(verdict):
            stdout.print(part)
    raise typer.Exit(0 if verdict.passed else 1)
