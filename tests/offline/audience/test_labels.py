"""What a report says of an old log."""

import numpy as np

from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.offline.audience.labels import stale_warning
from rta_service.record import pack_columns


def test_an_old_log_warns_that_its_people_have_churned_by_now() -> None:
    as_of_s = 1_700_000_000
    records = pack_columns({"last_active_at": np.array([as_of_s - 100, as_of_s - 15])})
    cuts = Thresholds(10, 3 * DAY_S, 5, 3, 900, 5000, 900, 200)

    fresh = stale_warning(records, as_of_s, as_of_s + DAY_S, cuts)
    old = stale_warning(records, as_of_s, as_of_s + 5 * DAY_S, cuts)

    assert fresh == ()
    assert "ends 5 days ago" in old[0]
    assert "100% of the devices" in old[0]
