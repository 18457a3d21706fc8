"""What a person wants to see of a demo run: one document, printed as tables or as JSON."""

import base64
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from rta_service.config import Settings
from rta_service.demo.judging import Check, Oracle, sleeping_shares
from rta_service.demo.platforms import ENCODERS, Answer
from rta_service.demo.play import Played
from rta_service.demo.world import World
from rta_service.telemetry import Totals
from rta_service.telemetry.registry import DECISIONS

Json = dict[str, Any]

PLATFORM_BUDGET_S: Final = 0.060
"""What platforms allow, network included; they throttle above 2 % of later answers."""


def document_of(
    world: World, played: Played, oracle: Oracle, totals: Totals, checks: list[Check]
) -> Json:
    """Gather everything that was found."""
    pairs = [
        (oracle.who(request), answer)
        for request, answer in zip(played.requests, played.answers, strict=True)
        if isinstance(answer, Answer)
    ]
    latencies = played.load.latency_percentiles()
    return {
        "release": world.release.release_id,
        "profiles": world.build.to_json(),
        "models": {
            name: head["evaluation"]
            for name, head in world.training.to_json()["heads"].items()
            if head["trained"]
        },
        "decisions": {
            label: {word[0]: int(count) for word, count in totals.counts(DECISIONS, label).items()}
            for label in ("stage", "tier", "reason")
        },
        "sleeping": sleeping_shares(pairs),
        "match_rate_by_id_kind": totals.match_rates(),
        "participation_share": totals.participation_shares(),
        "mean_weight_by_tier": totals.mean_weights(),
        "latency_ms": {name: round(value * 1000, 3) for name, value in latencies.items()},
        "share_within_60_ms": float(np.mean(played.load.latency_array() <= PLATFORM_BUDGET_S)),
        "requests": {"sent": played.load.sent, "answered": played.load.answered},
        "checks": [{"check": c.name, "held": c.held, "found": c.found} for c in checks],
        "passed": all(c.held for c in checks),
    }


def curl_lines(settings: Settings, played: Played, token: str) -> list[str]:
    """Give ready-to-paste commands that ask about people of this market."""
    body = _accepted(played, "json").decode()
    coded = base64.b64encode(_accepted(played, "tencent")).decode()
    port, control = settings.port, settings.control_port
    bearer = f"-H 'Authorization: Bearer {token}'"
    return [
        f"curl -s http://127.0.0.1:{port}/rta/json -d '{body}'",
        (
            f"echo {coded} | base64 -d | curl -s http://127.0.0.1:{port}/rta/tencent "
            "--data-binary @- | base64"
        ),
        (
            f"curl -s http://127.0.0.1:{control}/v1/explain {bearer} "
            f'-H \'Content-Type: application/json\' -d \'{{"platform":"json","request":{body}}}\''
        ),
        f"curl -s http://127.0.0.1:{control}/metrics {bearer}",
    ]


def _accepted(played: Played, platform: str) -> bytes:
    """Write the first request about someone known that got a yes, or the first at all."""
    pairs = zip(played.requests, played.answers, strict=True)
    asked = [(r, a) for r, a in pairs if r.platform == platform and isinstance(a, Answer)]
    liked = [r for r, a in asked if a.participate and r.known]
    return ENCODERS[platform](liked[0] if liked else asked[0][0])


def show(document: Json, console: Console) -> None:
    """Print the document as tables."""
    profiles = document["profiles"]
    cuts = ", ".join(f"{name} {value:.4g}" for name, value in profiles["thresholds"].items())
    console.print(
        f"\n{profiles['events']:,} events, {profiles['persons']:,} people, "
        f"{profiles['devices']:,} device ids; thresholds: {cuts}\n",
        highlight=False,
    )
    models = Table("model", "rows", "AUC", "PCOC", title="models, on a week after training")
    for name, seen in document["models"].items():
        models.add_row(name, f"{seen['rows']:,}", f"{seen['auc']:.3f}", f"{seen['pcoc']:.3f}")
    console.print(models)
    decisions = Table("by", "", "decisions", "share", title="decisions")
    for label, counts in document["decisions"].items():
        total = sum(counts.values())
        for word, count in sorted(counts.items(), key=lambda item: -item[1]):
            decisions.add_row(label, word, f"{count:,}", f"{count / total:.1%}")
    console.print(decisions)
    _show_figures(document, console)
    _show_what_came_back(document["came_back"], console)
    checks = Table("self-check", "", "found")
    for check in document["checks"]:
        mark = "[green]held[/]" if check["held"] else "[red]FAILED[/]"
        checks.add_row(check["check"], mark, check["found"])
    console.print(checks)


def _show_what_came_back(came_back: Json, console: Console) -> None:
    events = came_back["events"]
    title = "what came back: " + ", ".join(f"{count:,} {fate}" for fate, count in events.items())
    rows = came_back["strategies"]
    table = Table(Column("strategy", no_wrap=True), *next(iter(rows.values()), {}), title=title)
    for name, row in sorted(rows.items()):
        table.add_row(name, *(f"{value:,.5g}" for value in row.values()))
    console.print(table)


def _show_figures(document: Json, console: Console) -> None:
    figures = Table("figure", "", "value", title="what came of it")
    for stage, shares in document["sleeping"].items():
        figures.add_row(f"{stage} people", "filtered", f"{shares['filtered']:.1%}")
        figures.add_row(f"{stage} people", "woken", f"{shares['woken']:.1%}")
    for kind, rate in document["match_rate_by_id_kind"].items():
        figures.add_row("match rate", kind, f"{rate:.1%}")
    for platform, share in document["participation_share"].items():
        figures.add_row("participation share", platform, f"{share:.1%}")
    for tier, weight in document["mean_weight_by_tier"].items():
        figures.add_row("mean weight", f"tier {tier}", f"{weight:.2f}")
    for name, value in document["latency_ms"].items():
        figures.add_row("latency", name, f"{value:.2f} ms")
    figures.add_row("latency", "within 60 ms", f"{document['share_within_60_ms']:.2%}")
    console.print(figures)
