"""Postbacks: when, whether and how often the platform's or the app's report of one arrives."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rta_service.simulation.wind_tunnel.curves import Floats
from rta_service.simulation.wind_tunnel.funnel import Conversions, Requests
from rta_service.simulation.wind_tunnel.scenario import Campaign, Outage

_BURST_S: float = 60.0
"""How long what an outage held back takes to arrive."""


@dataclass(frozen=True, slots=True)
class Postbacks:
    """Reports of conversions, ordered by arrival; columns of one length."""

    id: NDArray[np.int64]
    """Of the conversion: a duplicate has the same one."""
    row: NDArray[np.int64]
    """Of the request whose impression converted."""
    kind: NDArray[np.int8]
    won_at: Floats
    converted_at: Floats
    arrives_at: Floats
    value: Floats

    def __len__(self) -> int:
        return len(self.id)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Postbacks":
        """Give some of them."""
        return Postbacks(
            self.id[rows],
            self.row[rows],
            self.kind[rows],
            self.won_at[rows],
            self.converted_at[rows],
            self.arrives_at[rows],
            self.value[rows],
        )


def send_postbacks(
    campaign: Campaign, rng: np.random.Generator, requests: Requests, conversions: Conversions
) -> Postbacks:
    """Plan the postbacks of all conversions there could be; a run delivers those that it won."""
    platform, count = campaign.platform, len(conversions.row)
    arrives = conversions.at + platform.late_s * rng.standard_exponential(count)
    lost = rng.random(count) < platform.missing
    again = np.flatnonzero((rng.random(count) < platform.twice) & ~lost)
    later = arrives[again] + (1.0 + platform.late_s) * rng.standard_exponential(len(again))
    which = np.concatenate([np.flatnonzero(~lost), again])
    arrives = np.concatenate([arrives[~lost], later])
    for outage in platform.outages:
        which, arrives = _hold_up(outage, campaign.period_s, rng, (which, arrives))
    order = np.argsort(arrives, kind="stable")
    which, arrives = which[order], arrives[order]
    row = conversions.row[which]
    return Postbacks(
        id=which,
        row=row,
        kind=conversions.kind[which],
        won_at=requests.at[row],
        converted_at=conversions.at[which],
        arrives_at=arrives,
        value=conversions.value[which],
    )


def _hold_up(
    outage: Outage,
    period_s: float,
    rng: np.random.Generator,
    sent: tuple[NDArray[np.int64], Floats],
) -> tuple[NDArray[np.int64], Floats]:
    """Let an outage keep postbacks back until its end, or swallow them."""
    which, arrives = sent
    start, end = outage.start * period_s, outage.end * period_s
    caught = (arrives >= start) & (arrives < end)
    if outage.lost:
        return which[~caught], arrives[~caught]
    burst = end + _BURST_S * rng.random(len(arrives))
    return which, np.where(caught, burst, arrives)
