"""What becomes of answers."""

from rta_service.domain.device import OperatingSystem
from rta_service.simulation.reactions import Odds, Yes, react
from rta_service.simulation.traffic import SimulatedRequest

YES = [Yes(SimulatedRequest("json", f"r{n}", (), OperatingSystem.IOS), "t") for n in range(2_000)]


def test_each_step_follows_the_one_before_as_often_as_told() -> None:
    odds = Odds(win=0.5, click=0.4, register=0.3, pay=0.2, mean_cost_micros=1_000)

    won = list(react(YES, 7, odds))

    clicked = [one for one in won if one.is_click]
    assert 900 < len(won) < 1_100
    assert 0.35 < len(clicked) / len(won) < 0.45
    assert 0.2 < sum(one.registers for one in clicked) / len(clicked) < 0.4
    assert 0.1 < sum(one.paid_cents > 0 for one in clicked) / len(clicked) < 0.3
    assert not any(one.registers or one.paid_cents for one in won if not one.is_click)
    assert 900 < sum(one.cost_micros for one in won) / len(won) < 1_100


def test_the_same_seed_gives_the_same_reactions() -> None:
    assert list(react(YES, 7)) == list(react(YES, 7)) != list(react(YES, 8))
