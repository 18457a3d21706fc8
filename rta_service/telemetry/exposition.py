"""The service's totals in Prometheus's text format."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from rta_service.telemetry.cells import Cells, cells_of
from rta_service.telemetry.metric import PER_PROCESS, Kind, Metric
from rta_service.telemetry.registry import (
    METRICS,
    PARTICIPATION_SHARE,
    RELEASE_SKEW,
    RELEASE_VERSIONS,
)
from rta_service.telemetry.skew import Skew, skew_of
from rta_service.telemetry.totals import Totals, read_all

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
"""The media type of what `exposition` gives."""


def exposition(run_dir: Path, now_ms: int) -> bytes:
    """Scrape all processes of a service; `now_ms` is UTC, for the ages."""
    registry = CollectorRegistry()
    registry.register(_TotalsCollector(read_all(run_dir), now_ms / 1000))
    return generate_latest(registry)


class _TotalsCollector(Collector):
    def __init__(self, totals: Totals, now_s: float) -> None:
        self._totals = totals
        self._now_s = now_s
        self._skew: Skew = skew_of(totals.gauges)

    def collect(self) -> Iterable[Family]:
        for metric in METRICS:
            if metric.kind in PER_PROCESS:
                yield self._per_process(metric)
            elif metric.kind is Kind.DERIVED:
                yield self._derived(metric)
            else:
                yield self._summed(metric)

    def _per_process(self, metric: Metric) -> Family:
        family = Family(metric.name, metric.meaning, "gauge")
        for process, cells in self._totals.gauges.items():
            block = cells[cells_of(metric)].reshape(metric.shape)
            for labels, (value,) in _series(metric, block):
                if not math.isnan(value):
                    shown = self._now_s - value if metric.kind is Kind.AGE else value
                    family.add_sample(metric.name, {**labels, "process": process}, shown)
        return family

    def _derived(self, metric: Metric) -> Family:
        family = Family(metric.name, metric.meaning, "gauge")
        if metric is PARTICIPATION_SHARE:
            for platform, share in self._totals.participation_shares().items():
                family.add_sample(metric.name, {"platform": platform}, share)
        elif metric is RELEASE_VERSIONS:
            family.add_sample(metric.name, {}, self._skew.versions)
        elif metric is RELEASE_SKEW:
            family.add_sample(metric.name, {}, self._skew.lasted_s(self._now_s))
        else:
            family.add_sample(metric.name, {}, len(self._totals.ignored))
        return family

    def _summed(self, metric: Metric) -> Family:
        base = metric.name.removesuffix("_total")
        family = Family(base, metric.meaning, metric.kind.value)
        for labels, cells in _series(metric, self._totals.block(metric)):
            match metric.kind:
                case Kind.HISTOGRAM:
                    _add_histogram(family, metric, labels, cells)
                case Kind.SUMMARY:
                    family.add_sample(base + "_count", labels, cells[0])
                    family.add_sample(base + "_sum", labels, cells[1])
                case _:
                    family.add_sample(metric.name, labels, cells[0])
        return family


def _series(metric: Metric, block: Cells) -> Iterator[tuple[dict[str, str], list[float]]]:
    """Give label values and cells of the series to be shown."""
    rows = block.reshape(-1, metric.width)
    shown = np.flatnonzero(rows[:, 0]) if metric.sparse else np.arange(len(rows))
    places = np.unravel_index(shown, metric.shape[:-1]) if metric.labels else ()
    columns = [
        [label.values[position] for position in axis]
        for label, axis in zip(metric.labels, places, strict=True)
    ]
    names = metric.label_names
    for position, cells in enumerate(rows[shown].tolist()):
        yield dict(zip(names, (column[position] for column in columns), strict=True)), cells


def _add_histogram(
    family: Family, metric: Metric, labels: dict[str, str], cells: list[float]
) -> None:
    seen = 0.0
    for bound, count in zip((*metric.bounds, math.inf), cells[:-1], strict=True):
        seen += count
        le = "+Inf" if math.isinf(bound) else repr(bound)
        family.add_sample(metric.name + "_bucket", {**labels, "le": le}, seen)
    family.add_sample(metric.name + "_count", labels, seen)
    family.add_sample(metric.name + "_sum", labels, cells[-1])
