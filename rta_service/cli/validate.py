"""`rta models validate`: is a model's text sound, and if not, which lines are to blame."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from rta_service.cli.app import EXIT_WRONG_INPUT, stdout
from rta_service.cli.models import models_app
from rta_service.cli.options import AsJson
from rta_service.cli.release import print_json
from rta_service.domain.errors import InvalidInput

if TYPE_CHECKING:
    from rta_service.scoring.model_report import ModelReport


@models_app.command()
def validate(
    path: Annotated[
        Path, typer.Argument(help="A model.txt, a bundle's folder, or a folder of such.")
    ],
    as_json: AsJson = False,
) -> None:
    """Check models without loading them.

    Exit 0 if all are sound, 2 with the reasons if not.
    """
    from rta_service.scoring.model_report import find_models, report_model

    files = find_models(path)
    if not files:
        raise InvalidInput("no model.txt there", str(path))
    reports = [report_model(file) for file in files]
    sound = all(report.sound for report in reports)
    if as_json:
        print_json({"sound": sound, "models": [_as_json(report) for report in reports]})
    else:
        for report in reports:
            _show(report)
    if not sound:
        raise typer.Exit(EXIT_WRONG_INPUT)


def _as_json(report: "ModelReport") -> dict[str, object]:
    faults = [fault._asdict() for fault in report.faults]
    return {**msgspec.structs.asdict(report), "faults": faults}


def _show(report: "ModelReport") -> None:
    if report.sound:
        stdout.print(
            f"{report.file}: sound, {report.trees:,} trees, {report.leaves:,} leaves,"
            f" {report.bytes:,} bytes in {report.seconds:.2f} s",
            markup=False,
            soft_wrap=True,
        )
        return
    count = len(report.faults)
    stdout.print(
        f"{report.file}: unsound, {count} fault{'s' if count > 1 else ''}",
        markup=False,
        soft_wrap=True,
    )
    for fault in report.faults:
        stdout.print(f"  {fault}", markup=False, soft_wrap=True, highlight=False)
