from pathlib import Path

import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.offline.column_map import (
    ColumnMap,
    Constant,
    Named,
    Product,
    Rules,
    read_column_map,
)

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "online_retail.toml"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "map.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_of_the_documentation_reads() -> None:
    mapping = read_column_map(EXAMPLE)

    assert mapping == ColumnMap(
        columns={
            "device_id": Named("CustomerID"),
            "ts": Named("InvoiceDate"),
            "event": Constant("pay"),
            "order_id": Named("InvoiceNo"),
            "amount": Product(("Quantity", "UnitPrice")),
            "item_id": Named("StockCode"),
        },
        rules=Rules(
            skip_anonymous=True,
            cancellation_prefix="C",
            refund_negative=True,
            launch_events=("pay",),
        ),
    )


def test_an_empty_mapping_accepts_nothing_odd(tmp_path: Path) -> None:
    assert read_column_map(written(tmp_path, "")) == ColumnMap()


def test_event_words_may_mean_ours_or_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, '[events]\n"App Opened" = "launch"\nheartbeat = "ignore"\n')

    assert read_column_map(path).events == {"App Opened": "launch", "heartbeat": "ignore"}


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("[columnz]\n", ":1", "unknown key 'columnz'"),
        ("columns = 3\n", ":1", "must be a section"),
        ('[columns]\nts = "t"\ndevise_id = "d"\n', ":3", r"unknown key 'devise_id' in \[columns\]"),
        ("[columns]\nts = 3\n", ":2", "ts must be a column name"),
        ('[columns]\nts = {constant = "a", b = 1}\n', ":2", "ts must be a column name"),
        ('[columns]\ncents = {product = ["a"]}\n', ":2", "cents must be a column name"),
        ('[columns]\npay = "x"\n[events]\n', ":2", "unknown key 'pay'"),
        ('[events]\nbuy = "purchase"\n', ":2", "'purchase' is not one of: download"),
        ('[rules]\nanonymous = "drop"\n', ":2", "must be 'skip' or 'reject'"),
        ('[rules]\nnegative_money = "skip"\n', ":2", "must be 'refund' or 'reject'"),
        ("[rules]\ncancellation_prefix = 3\n", ":2", "must be text"),
        ('[rules]\nlaunch_events = "pay"\n', ":2", "must be a list"),
        ('[rules]\nlaunch_events = ["buy"]\n', ":2", "must be a list"),
        ('[rules]\nlaunch_events = ["ad_win"]\n', ":2", "must be a list"),
        ("rules.refunds = 1\n", "section [rules]", "unknown key 'refunds'"),
        ("[columns\n", "map.toml", "can't be read"),
    ],
)
def test_an_error_names_its_line_and_key(
    tmp_path: Path, text: str, place: str, message: str
) -> None:
    path = written(tmp_path, text)

    with pytest.raises(InvalidInput, match=message) as caught:
        read_column_map(path)

    assert caught.value.place.endswith(place)


def test_a_missing_mapping_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.toml: can't be read"):
        read_column_map(tmp_path / "nowhere.toml")
