"""Plays campaigns in several processes; the same sizes and seeds give the same scores."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import numpy as np

from rta_service.demo.control_bench.bidder import Experience, OurBidder
from rta_service.demo.control_bench.lineup import OURS, SCENARIOS, TUNED, players, seat
from rta_service.simulation.wind_tunnel.baselines import Gains, tune_pid
from rta_service.simulation.wind_tunnel.curves import Floats
from rta_service.simulation.wind_tunnel.run import Run, run
from rta_service.simulation.wind_tunnel.scenario import load_scenario
from rta_service.simulation.wind_tunnel.score import Score, score
from rta_service.simulation.wind_tunnel.witness import Witness
from rta_service.simulation.wind_tunnel.world import World, make_world

ADVERTISER: Final = 20
"""So many campaigns share a history, one after the other."""
TUNING_SEED: Final = 101
"""Of the campaigns on which the PID is tuned; reported seeds are 1, 2, 3 ..."""

_DRAWN: Final = (OURS, TUNED)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is played."""

    campaigns: int = 200
    seeds: int = 5
    tuning: int = 60
    scenarios: tuple[str, ...] = SCENARIOS
    processes: int = 2


QUICK: Final = Size(campaigns=40, seeds=1, tuning=8)


@dataclass(frozen=True, slots=True)
class Path:
    """One run over time, for a picture; columns have an entry a slot."""

    scenario: str
    campaign: str
    bucket: str
    player: str
    error: float
    ratio: Floats
    """Cost so far over T x the conversions that it will have brought."""
    multiplier: Floats
    """Mean bid over T x mean prediction."""
    spend: Floats
    """Of the whole cost that the best would have had."""


@dataclass(slots=True)
class Outcome:
    """All scores of a scenario by player, and some paths."""

    scores: dict[str, list[Score]] = field(default_factory=dict)
    paths: list[Path] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        """Take in another part's."""
        for player, scores in other.scores.items():
            self.scores.setdefault(player, []).extend(scores)
        self.paths.extend(other.paths)


@dataclass(frozen=True, slots=True)
class Part:
    """One advertiser's campaigns."""

    scenario: str
    seed: int
    first: int
    end: int
    gains: Gains

    @property
    def is_drawn(self) -> bool:
        """Whether its paths are kept."""
        return self.seed == 1 and self.first == 0


def play_part(part: Part) -> Outcome:
    """Play one advertiser's campaigns in turn; only what our own runs saw is remembered."""
    outcome, pasts = Outcome(), {player: Experience() for player in players(part.scenario)}
    campaigns = load_scenario(part.scenario).draw(part.seed, part.end)
    for campaign in islice(campaigns, part.first, None):
        world = make_world(campaign, part.seed)
        for player, past in pasts.items():
            bidder = seat(player, world, part.gains, past)
            witness = Witness(bidder)
            done = run(world, witness)
            judged = score(done)
            outcome.scores.setdefault(player, []).append(judged)
            if isinstance(bidder, OurBidder):
                past.remember(bidder)
            if part.is_drawn and player in _DRAWN:
                outcome.paths.append(_path(part.scenario, player, (done, witness), judged))
    return outcome


def tune(scenario: str, count: int) -> Gains:
    """Tune the PID on other campaigns than those that are reported."""
    campaigns = load_scenario(scenario).draw(TUNING_SEED, count)
    return tune_pid(make_world(campaign, TUNING_SEED) for campaign in campaigns)


def play(size: Size, moved: Callable[[int, int], None]) -> dict[str, Outcome]:
    """Play every scenario; `moved` hears how many campaigns of how many are done."""
    outcomes: dict[str, dict[Part, Outcome]] = {name: {} for name in size.scenarios}
    total, done = size.campaigns * size.seeds * len(size.scenarios), 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(size.processes, context) as pool:
        gains = list(pool.map(tune, size.scenarios, [size.tuning] * len(size.scenarios)))
        tuned = dict(zip(size.scenarios, gains, strict=True))
        waiting = {pool.submit(play_part, part): part for part in _parts(size, tuned)}
        for future in as_completed(waiting):
            part = waiting[future]
            outcomes[part.scenario][part] = future.result()
            done += part.end - part.first
            moved(done, total)
    return {name: _joined(parts) for name, parts in outcomes.items()}


def _parts(size: Size, tuned: dict[str, Gains]) -> Iterator[Part]:
    for name in size.scenarios:
        for seed in range(1, size.seeds + 1):
            for first in range(0, size.campaigns, ADVERTISER):
                end = min(first + ADVERTISER, size.campaigns)
                yield Part(name, seed, first, end, tuned[name])


def _joined(parts: dict[Part, Outcome]) -> Outcome:
    """Put parts in order, whichever was done first."""
    whole = Outcome()
    for part in sorted(parts, key=lambda one: (one.seed, one.first)):
        whole.add(parts[part])
    return whole


def _path(scenario: str, player: str, ran: tuple[Run, Witness], judged: Score) -> Path:
    done, witness = ran
    world = done.world
    campaign = world.campaign
    cost = np.cumsum(done.by_slot(done.costs))
    worth = campaign.target * np.cumsum(done.by_slot(world.outcomes(campaign.goal)))
    return Path(
        scenario=scenario,
        campaign=campaign.name,
        bucket=judged.bucket,
        player=player,
        error=judged.error,
        ratio=cost / np.maximum(worth, campaign.target / 2),
        multiplier=_multipliers(world, witness),
        spend=cost / max(_best_cost(world), 1e-9),
    )


def _multipliers(world: World, witness: Witness) -> Floats:
    campaign = world.campaign
    asked = [float(one.predicted.of(campaign.goal).sum()) for one in witness.asked]
    answered = [float(np.maximum(answers, 0.0).sum()) for answers in witness.answers]
    return np.array(answered) / np.maximum(campaign.target * np.array(asked), 1e-12)


def _best_cost(world: World) -> float:
    return world.both.cost if world.both else world.clairvoyant.cost
