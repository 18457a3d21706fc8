"""Every setting, reason and key that people meet has its sentence."""

import ast
import doctest
import re
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from rta_service import config
from rta_service.config import Settings
from rta_service.domain.reason import REASON_TEXT, ReasonCode
from rta_service.online import strategy_file
from rta_service.online.control_form import ControlForm

PAGE = (Path(__file__).parents[1] / "docs" / "strategies.md").read_text(encoding="utf-8")
FORMS = (strategy_file._StrategyForm, strategy_file._AudienceForm)


def _described_fields() -> dict[str, str]:
    """Give the attribute docstrings of Settings by field."""
    module = ast.parse(Path(config.__file__).read_text(encoding="utf-8"))
    body = next(n for n in module.body if isinstance(n, ast.ClassDef) and n.name == "Settings").body
    return {
        field.target.id: text.value.value
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _rows() -> dict[str, list[str]]:
    """Give the table rows of the page by the word in their first cell."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


@pytest.mark.parametrize("reason", list(ReasonCode))
def test_a_reason_stands_in_the_page_with_its_sentence(reason: ReasonCode) -> None:
    assert _rows()[reason.label][-1] == REASON_TEXT[reason]


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_a_setting_has_its_sentence(name: str) -> None:
    assert len(_described_fields().get(name, "")) > 10


@pytest.mark.parametrize("form", [*FORMS, ControlForm])
def test_every_key_of_a_strategies_file_is_explained(form: type[msgspec.Struct]) -> None:
    keys = [field.name for field in msgspec.structs.fields(form)]

    assert [key for key in keys if len(_rows().get(key, [])) != 3] == []


def test_the_example_uses_every_key() -> None:
    example = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]
    keys = [field.name for form in FORMS for field in msgspec.structs.fields(form)]

    assert [key for key in keys if not re.search(rf"\b{key}\b( =|\])", example)] == []


def test_the_worked_examples_of_bids_are_what_the_library_says() -> None:
    found = doctest.testfile(
        str(Path(__file__).parents[1] / "docs" / "bidding.md"), module_relative=False
    )

    assert found.attempted >= 15
    assert found.failed == 0
