"""What workers do under cost control is counted, and its absence told once."""

from pathlib import Path
from typing import Any

from rta_service.domain.control_order import Usage
from rta_service.domain.errors import StoreUnavailable
from rta_service.online.control_exchange import Told
from rta_service.telemetry import Telemetry, exposition
from rta_service.telemetry.steering_news import SteeringNews


class Clock:
    def now_ms(self) -> int:
        return 90_000

    def monotonic_s(self) -> float:
        return 0.0


def test_answers_are_counted_by_what_control_did_also_when_telling_failed(tmp_path: Path) -> None:
    said: list[str] = []
    telemetry = Telemetry.open(tmp_path, "decision-0")
    news = SteeringNews(telemetry, Clock(), lambda event, **_: said.append(event))

    news.tell(Told([Usage("s@json", answered=5, capped=2), Usage("t@json", answered=1)]))
    news.tell(Told([Usage("s@json", no_money=3)], StoreUnavailable("away")))

    page = exposition(tmp_path, 100_000)
    assert _value(page, 'rta_control_answers_total{what="answered"}') == 6
    assert _value(page, 'rta_control_answers_total{what="capped"}') == 2
    assert _value(page, 'rta_control_answers_total{what="no_money"}') == 3
    assert _value(page, 'rta_control_exchanges_total{outcome="done"}') == 1
    assert _value(page, 'rta_control_exchanges_total{outcome="failed"}') == 1
    assert _value(page, "rta_control_heard_age_seconds") == 10.0
    telemetry.close()


def test_one_line_says_that_control_is_away_and_one_that_it_is_back(tmp_path: Path) -> None:
    said: list[tuple[str, Any]] = []
    telemetry = Telemetry.open(tmp_path, "decision-0")
    news = SteeringNews(telemetry, Clock(), lambda event, **facts: said.append((event, facts)))
    away = Told([], StoreUnavailable("the store is away"))

    for told in (Told([]), away, away, Told([]), Told([])):
        news.tell(told)

    assert [event for event, _ in said] == ["control_away", "control_back"]
    assert "the store is away" in said[0][1]["error"]
    telemetry.close()


def _value(page: Any, series: str) -> float:
    text = page.decode() if isinstance(page, bytes) else page
    name, _, labels = series.partition("{")
    line = next(
        line
        for line in text.splitlines()
        if line.startswith(name) and all(part in line for part in labels.strip("}").split(","))
    )
    return float(line.rsplit(" ", 1)[1])
