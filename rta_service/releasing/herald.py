"""Telling what becomes of releases in one process: counted, and said once."""

from collections.abc import Callable

from rta_service.domain.clock import Clock
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.reason import ReasonCode
from rta_service.online.pipeline import Pipeline
from rta_service.online.watcher import News
from rta_service.telemetry import Telemetry


class Herald:
    """Counts a watcher's news and says it; what was said last is not said again."""

    def __init__(
        self, pipeline: Pipeline, telemetry: Telemetry, clock: Clock, say: Callable[..., None]
    ) -> None:
        self._pipeline = pipeline
        self._telemetry = telemetry
        self._clock = clock
        self._say = say
        self._said = ("", "", "")

    def tell(self, news: News) -> None:
        """Take a piece of news; to be called where the pipeline decides."""
        self._count(news)
        said = (news.event, news.release_id, str(news.error or ""))
        if said != self._said:
            self._said = said
            self._say(news.event, release=news.release_id, error=said[2])

    def _count(self, news: News) -> None:
        away = isinstance(news.error, StoreUnavailable)
        self._pipeline.absence = ReasonCode.STORE_UNAVAILABLE if away else ReasonCode.NO_RELEASE
        live = self._pipeline.live
        match news.event:
            case "release_taken" if live is not None:
                made_ms = live.release.created_at_ms
                self._telemetry.release_taken(made_ms, self._clock.now_ms(), news.seconds)
                self._telemetry.snapshot_taken(live.snapshot.as_of_s)
            case "release_prepared":
                self._telemetry.release_prepared(news.seconds)
            case "release_refused":
                self._telemetry.count_release_refused()
            case _:
                pass
