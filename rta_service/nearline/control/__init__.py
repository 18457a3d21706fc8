"""Holds the cost of conversions at its target: a controller without input, output, clock or chance.

Feed it what was bought and what converted, step it, and read what to bid:

>>> import numpy as np
>>> from rta_service.domain.control import Aim, CostGoal, Mode, Targets
>>> from rta_service.domain.control_pricing import bids, prices
>>> from rta_service.nearline.control.feed import Conversions, Wins
>>> from rta_service.nearline.control.unit import ControlUnit, Rules
>>> aim = Aim(Mode.TCPA, Targets(shallow_micros=20_000_000), CostGoal.SHALLOW)
>>> unit = ControlUnit("spring/json", Rules(aim))
>>> won_at = np.arange(0, 3_600_000, 1_000)  # a win a second for an hour
>>> _ = unit.step(0)
>>> unit.learn(Wins(won_at, cost_micros=150_000, shallow=0.01))
True
>>> converted = won_at[::100]  # of 3,600 wins 36 convert, each a minute later
>>> unit.learn(None, Conversions(CostGoal.SHALLOW, converted, converted + 60_000))
True
>>> block = unit.step(3_600_000)
>>> standing = unit.standings()[0]
>>> round(standing.expected_cost_micros / 1e6, 1)  # 20 is wanted: bid more
14.8
>>> block.goals[0].reason.value, block.goals[0].log_multiplier > 0
('too_cheap', True)
>>> offers, bad = bids(prices([block], 3_600_000), np.array([[[0.01]], [[0.0]], [[0.0]]]))
>>> bool(offers[0, 0] > 200_000)  # more than 20 yuan x 0.01
True

The parts, each with its formulas: `delay` (how late conversions come), `ageing` (exact sums by
age), `posterior` (what predictions are worth), `update` (the step), `budget`, `modes` (phases),
`guards`, `levels` (one step of them all), `unit` (the whole); the bid is in `domain.control_pricing`.
"""
