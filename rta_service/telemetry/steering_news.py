"""What becomes of a worker's exchanges with cost control: counted, and told when it changes."""

from collections.abc import Callable

from rta_service.domain.clock import Clock
from rta_service.online.control_exchange import Told
from rta_service.telemetry.recorder import Telemetry


class SteeringNews:
    """Counts exchanges; writes one line when cost control is away and one when it is back."""

    def __init__(self, telemetry: Telemetry, clock: Clock, say: Callable[..., None]) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._say = say
        self._said = ""

    def tell(self, told: Told) -> None:
        """Take note of one exchange."""
        for usage in told.usages:
            self._telemetry.count_steered(usage)
        error = "" if told.error is None else f"{type(told.error).__name__}: {told.error}"
        self._telemetry.count_exchange(self._clock.now_ms(), is_done=not error)
        if bool(error) != bool(self._said):
            self._say("control_away" if error else "control_back", error=error or self._said)
        self._said = error
