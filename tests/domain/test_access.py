import itertools

from rta_service.domain.access import Role


def test_each_role_may_do_all_that_those_before_it_may() -> None:
    ordered = [Role.VIEWER, Role.OPERATOR, Role.ADMIN]

    for (low, role), (high, other) in itertools.product(enumerate(ordered), repeat=2):
        assert other.covers(role) == (high >= low)
