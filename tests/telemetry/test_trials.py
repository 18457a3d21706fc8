import math
from pathlib import Path

from rta_service.telemetry import Telemetry, exposition


def test_a_model_on_trial_shows_how_it_scores_beside_the_live_one(tmp_path: Path) -> None:
    telemetry = Telemetry.open(tmp_path, "control")

    telemetry.count_shadow("trade", "shadow", 500)
    telemetry.count_shadow("trade", "shadow", 20)
    telemetry.show_shadow("trade", "shadow", 1.2, 0.05)
    telemetry.show_shadow("trade", "canary", math.nan, math.nan)
    telemetry.count_shadow("our own head", "canary", 3)

    shown = exposition(tmp_path, 0).decode()
    assert 'rta_shadow_rows_total{model="trade",phase="shadow"} 520.0' in shown
    assert 'rta_shadow_rows_total{model="other",phase="canary"} 3.0' in shown
    assert 'rta_shadow_psi{model="trade",phase="shadow",process="control"} 0.05' in shown
    assert 'rta_shadow_mean_ratio{model="trade",phase="shadow",process="control"} 1.2' in shown
    assert 'phase="canary",process' not in shown
