"""A funnel file says which heads are trained; what is wrong with it is named with its place."""

from pathlib import Path

import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.domain.funnel import DEFAULT_FUNNEL, HeadSpec, Step
from rta_service.offline.training.funnel_file import Funnel, read_funnel

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "funnel.toml"

NEEDED = """\
[[heads]]
name = "register"
goal = "register"
given = "click"

[[heads]]
name = "trade"
goal = "trade"
given = "click"
"""


def _read(tmp_path: Path, text: str) -> Funnel:
    path = tmp_path / "funnel.toml"
    path.write_text(text, encoding="utf-8")
    return read_funnel(path)


def test_the_example_of_the_documentation_reads() -> None:
    funnel = read_funnel(EXAMPLE)

    assert {spec.name for spec in DEFAULT_FUNNEL} <= {spec.name for spec in funnel.heads}
    assert HeadSpec("activate_given_download", Step.ACTIVATE, Step.DOWNLOAD, window_days=3.0) in (
        funnel.heads
    )
    assert funnel.monotone == {"register": {"browses": 1}, "trade": {"idle_days": -1}}


def test_constraints_for_all_heads_are_joined_with_their_own(tmp_path: Path) -> None:
    text = "[monotone]\nidle_days = -1\norders = 1\n" + NEEDED + "monotone = { orders = -1 }\n"

    funnel = _read(tmp_path, text)

    assert funnel.monotone["register"] == {"idle_days": -1, "orders": 1}
    assert funnel.monotone["trade"] == {"idle_days": -1, "orders": -1}


HEAD = '\n[[heads]]\nname = "more"\ngoal = "{}"\ngiven = "{}"\n'


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("heads = [", "", "can't be read"),
        ("[[head]]\n", "", "unknown field"),
        ('[[heads]]\nname = "register"\n', ":1, heads[0]", "missing required field `goal`"),
        (
            NEEDED.replace('goal = "trade"', 'goal = "trades"'),
            ":8, heads[1].goal",
            "Invalid enum value 'trades'",
        ),
        (
            NEEDED.partition("\n\n")[0],
            "funnel.toml, heads",
            "'trade' is missing: every funnel needs",
        ),
        (NEEDED + 'kind = "odds"\n', ":10, heads[1].kind", "Invalid enum value"),
        (NEEDED + "window_days = 0\n", ":10, heads[1].window_days", "0 must be above 0"),
        (NEEDED + "window_days = 999\n", ":10, heads[1].window_days", "at most 365"),
        (NEEDED + "monotone = { idle = 1 }\n", ":10, heads[1].monotone", "'idle' is no feature"),
        (NEEDED + "monotone = { os = 1 }\n", ":10, heads[1].monotone", "'os' is a category"),
        ("[monotone]\nidle = 1\n" + NEEDED, ", monotone", "'idle' is no feature"),
        (NEEDED + HEAD.format("click", "register"), ":14, heads[2].given", "does not come before"),
        (
            NEEDED + HEAD.format("click", "exposure") + "window_days = 1\n",
            ":15, heads[2].window_days",
            "at most 0.0417, an hour",
        ),
        (
            NEEDED + HEAD.format("trade", "click"),
            ":13, heads[2].goal",
            "'trade' asks the same already",
        ),
        (
            NEEDED + HEAD.format("trade", "click") + 'kind = "value"\n',
            ":14, heads[2].given",
            "a value head tells the money of a trade",
        ),
        (
            NEEDED + HEAD.format("activate", "click").replace("more", "More!"),
            ":12, heads[2].name",
            "must be lower-case letters",
        ),
        (
            NEEDED + HEAD.format("activate", "click").replace("more", "trade"),
            ":12, heads[2].name",
            "'trade' stands twice",
        ),
        (
            NEEDED + HEAD.format("activate", "click").replace("more", "value"),
            ":13, heads[2].goal",
            "'value' always means trade given trade as a value",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, text: str, place: str, message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        _read(tmp_path, text)

    assert place in str(caught.value)
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nowhere"):
        read_funnel(tmp_path / "nowhere.toml")
