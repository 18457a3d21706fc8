import msgspec
import pytest

from rta_service.demo.feedback import _events
from rta_service.domain.device import IdForm, IdKind, OperatingSystem
from rta_service.domain.happening import Rejection
from rta_service.nearline.reading import ReadingRules, read_line
from rta_service.simulation.reactions import Reaction, Yes
from rta_service.simulation.traffic import SimulatedId, SimulatedRequest

NOW_MS = 1_795_000_000_000


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (("0123456789abcdef0123456789abcdef",), ["ad_win", "ad_exposure", "register", "pay"]),
        ((), ["ad_win", "ad_exposure"]),
        (("0" * 32,), ["ad_win", "ad_exposure"]),
        (("d41d8cd98f00b204e9800998ecf8427e",), ["ad_win", "ad_exposure"]),
    ],
    ids=["known", "no-id", "zeros", "md5-of-nothing"],
)
def test_the_demo_tells_nothing_that_the_ingest_port_rejects(
    ids: tuple[str, ...], told: list[str]
) -> None:
    found = tuple(SimulatedId(IdKind.OAID, IdForm.MD5, value) for value in ids)
    request = SimulatedRequest("json", "r1", found, OperatingSystem.ANDROID)

    events = _events(1, Reaction(Yes(request, "a tag"), 40_000, True, True, 900))

    assert [one["event"] for one in events] == told
    for event in events:
        line = msgspec.json.encode({**event, "ts_ms": NOW_MS})
        assert not isinstance(read_line(line, ReadingRules(NOW_MS)), Rejection)
