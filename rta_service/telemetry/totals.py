"""The counters of all processes of a service, added up."""

from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np

from rta_service.domain.reason import ReasonCode
from rta_service.telemetry.cells import (
    SUFFIX,
    Cells,
    Reading,
    cells_of,
    metrics_folder,
    read_file,
)
from rta_service.telemetry.metric import Metric
from rta_service.telemetry.registry import (
    CELLS,
    DECISIONS,
    IDS_MATCHED,
    IDS_SEEN,
    REQUESTS,
    STAGE_LATENCY,
    WEIGHT,
)


@dataclass(frozen=True, slots=True)
class Totals:
    """What a service counted so far, dead workers included."""

    sums: Cells
    """float64[CELLS], added up over the processes; the cells of gauges mean nothing here."""
    gauges: dict[str, Cells]
    """The cells of each process that is running, for its gauges."""
    ignored: tuple[str, ...]
    """A sentence for every file that could not be counted."""

    def block(self, metric: Metric) -> Cells:
        """Give a metric's cells: one axis a label, the last axis the cells of a series."""
        return self.sums[cells_of(metric)].reshape(metric.shape)

    def counts(self, metric: Metric, *labels: str) -> dict[tuple[str, ...], float]:
        """Add up a counter by the values of some of its labels; what is zero is left out."""
        block = self.block(metric)[..., 0]
        axes = [metric.label_names.index(label) for label in labels]
        others = tuple(axis for axis in range(block.ndim) if axis not in axes)
        kept = sorted(axes)
        by_kept = block.sum(axis=others).transpose([kept.index(axis) for axis in axes])
        values = [metric.labels[axis].values for axis in axes]
        return {
            tuple(names[position] for names, position in zip(values, place, strict=True)): float(
                by_kept[tuple(place)]
            )
            for place in np.argwhere(by_kept)
        }

    def participation_shares(self) -> dict[str, float]:
        """Give each platform's share of yes among the requests that were no probes."""
        outcomes = self.counts(REQUESTS, "platform", "outcome")
        probes = self.counts(DECISIONS, "platform", "reason")
        shares = {}
        for platform in REQUESTS.labels[0].values:
            yes = outcomes.get((platform, "participate"), 0.0)
            no = outcomes.get((platform, "decline"), 0.0)
            no -= probes.get((platform, ReasonCode.PING.label), 0.0)
            if yes + no > 0:
                shares[platform] = yes / (yes + no)
        return shares

    def match_rates(self) -> dict[str, float]:
        """Give the share of the ids seen of each kind under which a record was found."""
        matched = self.counts(IDS_MATCHED, "kind")
        seen = self.counts(IDS_SEEN, "kind").items()
        return {kind[0]: matched.get(kind, 0.0) / count for kind, count in seen}

    def mean_weights(self) -> dict[str, float]:
        """Give the mean weight factor answered for each value tier."""
        counts, sums = self.block(WEIGHT).sum(axis=0).T
        tiers = WEIGHT.labels[1].values
        pairs = zip(tiers, counts, sums, strict=True)
        return {tier: float(total / count) for tier, count, total in pairs if count}

    def latency_quantile(self, stage: str, q: float) -> float:
        """Estimate a quantile of a step's latency in seconds, evenly spread within its bucket.

        NaN before the first request; the last bound for whatever took longer than that.
        """
        buckets = self.block(STAGE_LATENCY)[STAGE_LATENCY.labels[0].values.index(stage)][:-1]
        cumulative = buckets.cumsum()
        if not cumulative[-1]:
            return float("nan")
        rank = q * cumulative[-1]
        bucket = int(np.searchsorted(cumulative, rank))
        if bucket == len(STAGE_LATENCY.bounds):
            return STAGE_LATENCY.bounds[-1]
        low, high = (0.0, *STAGE_LATENCY.bounds)[bucket : bucket + 2]
        left = (cumulative[bucket] - rank) / buckets[bucket]
        return float(high - (high - low) * left)


def read_all(run_dir: Path) -> Totals:
    """Add up the files of all processes, dead or alive; what can't be read is noted, not counted.

    Up to a few files of 50 kB: about 0.2 ms.
    """
    paths = sorted(metrics_folder(run_dir).glob("*" + SUFFIX))
    readings = [read_file(path) for path in paths]
    counted = [reading for reading in readings if isinstance(reading, Reading)]
    return Totals(
        sums=reduce(np.add, (reading.cells for reading in counted), np.zeros(CELLS)),
        gauges={reading.process: reading.cells for reading in counted if reading.is_running},
        ignored=tuple(note for note in readings if isinstance(note, str)),
    )
