"""Reported costs, spread over what they were paid for, and the cells that come of it.

Spread when read: a report and its touches may come in any order, and nothing need be taken back.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from rta_service.domain.attribution import (
    NANOS,
    Cell,
    GoalSum,
    Place,
    Sums,
    TouchKind,
    TouchSum,
)

TouchedIn = tuple[Place, TouchKind]

_SPREAD_OVER: Final = (TouchKind.CLICK, TouchKind.EXPOSURE, TouchKind.WIN)
_NONE: Final = TouchSum()


def cells_of(sums: Sums) -> list[Cell]:
    """Give each place's cell, in the order of places."""
    reported = _reported(sums.touches, sums.reported)
    goals: defaultdict[Place, dict[str, GoalSum]] = defaultdict(dict)
    for (place, goal), found in sums.goals.items():
        goals[place][goal] = found
    places = {*(place for place, _ in sums.touches), *goals, *reported}
    return [
        _cell(place, sums.touches, goals.get(place, {}), reported.get(place, 0))
        for place in sorted(places)
    ]


def _cell(
    place: Place, touches: Mapping[TouchedIn, TouchSum], goals: dict[str, GoalSum], reported: int
) -> Cell:
    wins, exposures, clicks = (touches.get((place, kind), _NONE) for kind in TouchKind)
    return Cell(
        place,
        exposures.touches,
        clicks.touches,
        wins.touches,
        wins.cost_micros + exposures.cost_micros + clicks.cost_micros + reported,
        clicks.told,
        clicks.register_nanos / NANOS,
        clicks.trade_nanos / NANOS,
        goals,
    )


def _reported(
    touches: Mapping[TouchedIn, TouchSum], reports: Mapping[Place, int]
) -> Mapping[Place, int]:
    meant: defaultdict[Place, dict[Place, None]] = defaultdict(dict)
    for place, _ in touches:
        for about in _abouts(place):
            if about in reports:
                meant[about][place] = None
    costs: dict[Place, int] = defaultdict(int)
    for about, micros in reports.items():
        for place, share in _shares(about, micros, meant[about], touches):
            costs[place] += share
    return costs


def _abouts(place: Place) -> Iterable[Place]:
    """Give the two reports that may be about a place: of its strategy and of its campaign."""
    if place.strategy:
        yield Place(place.hour, place.channel, place.strategy)
    yield Place(place.hour, place.channel, "", place.campaign)


def _shares(
    about: Place, micros: int, meant: Iterable[Place], touches: Mapping[TouchedIn, TouchSum]
) -> Iterable[tuple[Place, int]]:
    """Share a cost over clicks, without any over exposures, without any over wins."""
    for kind in _SPREAD_OVER:
        found = {place: touches[place, kind] for place in meant if (place, kind) in touches}
        if found:
            return spread(micros, found).items()
    return ((about, micros),)


def spread(micros: int, sums: Mapping[Place, TouchSum]) -> dict[Place, int]:
    """Share micros by predicted registrations so that they add up: the largest remainders round up.

    Touches without a prediction weigh as much as the average one with.
    """
    told = sum(found.told for found in sums.values())
    nanos = sum(found.register_nanos for found in sums.values())
    if nanos:
        weights = {
            place: found.register_nanos * told + (found.touches - found.told) * nanos
            for place, found in sums.items()
        }
    else:
        weights = {place: found.touches for place, found in sums.items()}
    whole = sum(weights.values())
    shares, remainders = {}, []
    for place, weight in weights.items():
        shares[place], remainder = divmod(micros * weight, whole)
        remainders.append((-remainder, place))
    missing = micros - sum(shares.values())
    for _, place in sorted(remainders)[:missing]:
        shares[place] += 1
    return shares
