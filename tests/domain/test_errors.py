import pytest

from rta_service.domain import errors
from rta_service.domain.errors import (
    DeadlineExceeded,
    DegradedError,
    Fault,
    InvalidInput,
    InvalidRequest,
    ModelRefused,
    ModelUnsound,
    RTAError,
    SnapshotMissing,
    StartupError,
    StoreUnavailable,
)


def test_an_invalid_request_names_its_field() -> None:
    error = InvalidRequest("not text", "device.ids[0].kind")

    assert (str(error), error.field) == ("not text", "device.ids[0].kind")


@pytest.mark.parametrize(
    ("place", "text"), [("f.toml:3: goal", "f.toml:3: goal: is unknown"), ("", "is unknown")]
)
def test_an_operators_error_says_where_before_it_says_what(place: str, text: str) -> None:
    error = InvalidInput("is unknown", place)

    assert (str(error), error.place) == (text, place)


@pytest.mark.parametrize("kind", [DeadlineExceeded, StoreUnavailable, SnapshotMissing])
def test_what_has_a_safe_answer_is_degraded(kind: type[RTAError]) -> None:
    assert issubclass(kind, DegradedError)


def test_a_refused_model_stops_a_start() -> None:
    assert issubclass(ModelRefused, StartupError)


def test_the_tree_at_the_top_of_the_file_names_every_error() -> None:
    tree = errors.__doc__ or ""

    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind.__name__ for kind in found if issubclass(kind, RTAError)]

    assert kinds
    assert [name for name in kinds if name not in tree] == []


def test_an_unsound_model_names_its_first_fault_and_counts_the_others() -> None:
    faults = (Fault(12, 3, "left_child", "node 4 is reached twice"), Fault(0, -1, "text", "short"))

    error = ModelUnsound("model.txt", faults)

    assert (
        str(error) == "model.txt: line 12, tree 3, left_child: node 4 is reached twice (and 1 more)"
    )
    assert str(faults[1]) == "whole file, text: short"
    assert error.faults == faults
