import itertools

from rta_service.domain.access import Role


def test_each_role_may_do_all_that_those_before_it_may() -> None:
    ordered = [Role.VIEWER, Role.OPERATOR, Role.ADMIN]

    for (low, role), (high, other) in itertools.product(enumerate(ordered), repeat=2):
        assert other.covers(role) == (high >= low)


def test_a_sender_may_only_send_and_of_the_others_only_an_admin_may() -> None:
    assert [role for role in Role if role.covers(Role.SENDER)] == [Role.ADMIN, Role.SENDER]
    assert [role for role in Role if Role.SENDER.covers(role)] == [Role.SENDER]
