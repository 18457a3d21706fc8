"""The documentation page of all metrics."""

from collections.abc import Iterable

from rta_service.telemetry.metric import PER_PROCESS, Kind, Metric
from rta_service.telemetry.registry import METRICS


def document() -> str:
    """Write the documentation page of all metrics, in Markdown."""
    intro = (
        "# Metrics\n\n"
        "`GET /metrics` of the control port, in Prometheus's text format. Counters, summaries and "
        "histograms are summed over all processes and do not fall when a worker is restarted; "
        "gauges carry the label `process`. Label values are closed lists. This page is generated "
        "from the registry (`rta_service/telemetry/registry.py`), and a test keeps it true.\n"
    )
    return intro + "".join(_describe(metric) for metric in METRICS)


def _describe(metric: Metric) -> str:
    kind = "gauge" if metric.kind in (Kind.AGE, Kind.DERIVED) else metric.kind.value
    lines = [f"\n## `{metric.name}`\n", metric.meaning, "", f"- {kind}, {metric.unit}"]
    lines += [f"- `{label.name}`: {_listed(label.values)}" for label in metric.labels]
    if metric.kind in PER_PROCESS:
        lines.append("- `process`: the name of the process")
    if metric.bounds:
        lines.append(f"- buckets up to {', '.join(f'{bound:g}' for bound in metric.bounds)}")
    if metric.sparse:
        lines.append("- only series that ever counted something are shown")
    return "\n".join(lines) + "\n"


def _listed(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)
