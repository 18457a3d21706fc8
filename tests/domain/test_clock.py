import time

from rta_service.domain.clock import SystemClock


def test_the_systems_clock_tells_the_machines_time() -> None:
    clock = SystemClock()

    now_ms, monotonic_s = clock.now_ms(), clock.monotonic_s()

    assert abs(now_ms - time.time_ns() // 1_000_000) < 5_000
    assert 0 <= time.monotonic() - monotonic_s < 5
