import numpy as np
import pytest

from rta_service.simulation.live_auctions import Market, resolve

MARKET = Market(median_cpm_micros=8_000_000.0)


def test_a_winner_pays_the_second_price_and_only_for_what_was_won() -> None:
    bids = np.linspace(1e6, 3e7, 5_000)

    found = resolve(
        MARKET, bids, np.full(5_000, 0.3), np.full(5_000, 0.2), np.random.default_rng(1)
    )

    assert found.won.any()
    assert not found.won.all()
    assert (found.cost_micros[~found.won] == 0).all()
    assert (1000 * found.cost_micros[found.won] <= bids[found.won] + 500).all()
    assert not (found.clicked & ~found.won).any()
    assert not (found.converted & ~found.clicked).any()


def test_half_of_the_bids_at_the_median_win_and_half_of_the_predicted_convert() -> None:
    count = 40_000
    bids, pctr, pcvr = np.full(count, 8e6), np.full(count, 0.5), np.full(count, 0.4)

    found = resolve(MARKET, bids, pctr, pcvr, np.random.default_rng(2))

    assert found.won.mean() == pytest.approx(0.5, abs=0.02)
    assert found.clicked.sum() / found.won.sum() == pytest.approx(0.5, abs=0.02)
    assert found.converted.sum() / found.clicked.sum() == pytest.approx(0.2, abs=0.02)


def test_the_same_seed_gives_the_same_world() -> None:
    bids, pctr, pcvr = np.full(100, 8e6), np.full(100, 0.5), np.full(100, 0.4)

    one, other = (resolve(MARKET, bids, pctr, pcvr, np.random.default_rng(3)) for _ in range(2))

    assert all((a == b).all() for a, b in zip(one, other, strict=True))
