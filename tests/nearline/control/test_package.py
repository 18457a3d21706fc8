"""The package's example is true."""

import doctest

from rta_service.nearline import control


def test_the_example_of_the_package_runs_as_written() -> None:
    outcome = doctest.testmod(control)

    assert outcome.attempted > 10
    assert outcome.failed == 0
