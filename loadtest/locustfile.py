"""Locust scenarios: one user class a platform, closed loop or open loop, in a chosen shape.

Run it through `python -m loadtest.run`, which bounds it in time and users and starts a service.
"""

from argparse import ArgumentParser, Namespace
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import ClassVar, cast

import gevent
from locust import FastHttpUser, LoadTestShape, constant_throughput, events, task
from locust.env import Environment

from loadtest.checks import verdict
from loadtest.payloads import SPEECH, payloads
from loadtest.shapes import Load, users_at
from loadtest.summary import Row, Summary

_SEEDS = count(1)


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust left it untyped
def _add_options(parser: ArgumentParser) -> None:
    options = parser.add_argument_group("RTA")
    options.add_argument("--rta-shape", default="ramp")
    options.add_argument("--rta-users", type=int, default=20)
    options.add_argument("--rta-seconds", type=float, default=30.0)
    options.add_argument("--rta-user-rate", type=float, default=50.0)
    options.add_argument("--rta-open-loop", action="store_true")
    options.add_argument("--rta-devices", default="")
    options.add_argument("--rta-summary", default="")
    options.add_argument("--max-failure-share", type=float, default=0.02)


def _options(environment: Environment | None) -> Namespace:
    return cast("Namespace", environment and environment.parsed_options)


class PlatformUser(FastHttpUser):
    """Asks as one platform does and judges every answer as the platform would."""

    abstract = True
    platform: ClassVar[str]
    connection_timeout = 1.0
    network_timeout = 1.0

    def on_start(self) -> None:
        """Take a seed and a schedule of its own."""
        options = _options(self.environment)
        path = options.rta_devices
        devices = Path(path).read_text(encoding="utf-8").split() if path else []
        self._payloads = payloads(self.platform, devices, next(_SEEDS))
        self._headers = {"Content-Type": SPEECH[self.platform].content_type}
        self._pause = 0.0 if options.rta_open_loop else 1.0 / options.rta_user_rate
        self._due = perf_counter()

    def wait_time(self) -> float:
        """Closed loop waits like locust's constant_throughput; open loop keeps its own schedule."""
        if self._pause:
            return float(constant_throughput(1.0 / self._pause)(self))
        return 0.0

    @task
    def ask(self) -> None:
        """Send one request; a late, wrong or missing answer is a failure."""
        options = _options(self.environment)
        scheduled = perf_counter()
        if options.rta_open_loop:
            # the instant is absolute: whoever is behind sends at once, and the wait counts
            self._due += 1.0 / options.rta_user_rate
            gevent.sleep(max(self._due - scheduled, 0.0))
            scheduled = self._due
        self._send(scheduled)

    def _send(self, scheduled: float) -> None:
        path = f"/rta/{self.platform}"
        body = next(self._payloads)
        # bytes are what it sends; only its annotation says str
        with self.client.post(
            path, data=cast("str", body), headers=self._headers, catch_response=True
        ) as response:
            latency_s = perf_counter() - scheduled
            response.request_meta["response_time"] = latency_s * 1000
            status = response.status_code
            if wrong := verdict(self.platform, status, response.content or b"", latency_s):
                response.failure(wrong)
            else:
                response.success()


class JsonUser(PlatformUser):
    """The `json` platform."""

    platform = "json"


class TencentUser(PlatformUser):
    """Tencent Ads."""

    platform = "tencent"


class ChosenShape(LoadTestShape):
    """The shape of --rta-shape, within --rta-users and --rta-seconds."""

    def tick(self) -> tuple[int, float] | None:
        """Give users and spawn rate, or None at the end."""
        options = _options(self.runner.environment if self.runner else None)
        load = Load(options.rta_users, options.rta_seconds)
        users = users_at(options.rta_shape, load, perf_counter() - self.start_time)
        return None if users is None else (users, float(options.rta_users))


@events.quitting.add_listener  # type: ignore[untyped-decorator]  # locust left it untyped
def _judge(environment: Environment, **_: object) -> None:
    options, stats = _options(environment), environment.stats
    rows = [
        Row(
            name=entry.name,
            requests=entry.num_requests,
            failures=entry.num_failures,
            p50_ms=entry.get_response_time_percentile(0.5) or 0.0,
            p99_ms=entry.get_response_time_percentile(0.99) or 0.0,
        )
        for entry in stats.entries.values()
    ]
    reasons: dict[str, int] = {}
    for error in stats.errors.values():
        reasons[str(error.error)] = reasons.get(str(error.error), 0) + error.occurrences
    summary = Summary(rows, reasons, options.max_failure_share)
    if options.rta_summary:
        summary.write(Path(options.rta_summary))
    environment.process_exit_code = summary.exit_code
