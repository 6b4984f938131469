import numpy as np
import pytest

from tft_pipeline.training.calibration import (
    Calibration,
    coverage,
    median_share,
    naive_quantiles,
    pinball,
    recentred,
    width_factors,
)


def test_pinball_by_hand() -> None:
    # actual 0.02 against -0.01, 0.01, 0.03: errors 0.03, 0.01, -0.01 -> 0.1*0.03, 0.5*0.01, 0.1*0.01
    loss = pinball(np.array([0.02]), np.array([[-0.01, 0.01, 0.03]]))
    assert loss.tolist() == pytest.approx([(0.003 + 0.005 + 0.001) / 3])


def test_the_factor_is_what_four_in_five_need() -> None:
    # half-bands of 1; the actual lies 0.1 … 1.9 away: rank ceil(0.8 * 20) = 16 of 19 -> 1.6
    away = np.arange(1, 20) / 10
    actual = np.where(np.arange(19) % 2, away, -away)[:, None]
    quantiles = np.broadcast_to(np.array([-1.0, 0.0, 1.0]), (19, 1, 3)).copy()
    factors = width_factors(actual, quantiles)
    assert factors.tolist() == pytest.approx([1.6])
    assert coverage(actual, Calibration(1.0, factors).apply(quantiles)) == pytest.approx(16 / 19)


def test_each_horizon_and_each_side_is_measured_by_its_own_half_band() -> None:
    quantiles = np.broadcast_to(np.array([[-2.0, 0.0, 1.0], [-1.0, 0.0, 4.0]]), (9, 2, 3)).copy()
    actual = np.stack([np.full(9, -2.4), np.full(9, 5.2)], axis=1)
    assert width_factors(actual, quantiles).tolist() == pytest.approx([1.2, 1.3])


def test_a_median_that_is_half_right_is_halved_and_one_that_is_noise_goes() -> None:
    random = np.random.default_rng(1)
    median, noise = random.standard_normal((5000, 1)), random.standard_normal((5000, 1))
    assert median_share(0.5 * median + 0.1 * noise, median) == pytest.approx(0.5, abs=0.051)
    assert median_share(noise, median) <= 0.1
    assert median_share(-median, median) == 0.0
    assert median_share(2 * median, median) == 1.0


def test_the_band_moves_with_its_median() -> None:
    assert recentred(np.array([[-1.0, 0.4, 3.0]]), 0.25).tolist() == [pytest.approx([-1.3, 0.1, 2.7])]


def test_calibration_keeps_the_order_and_then_covers_four_in_five() -> None:
    random = np.random.default_rng(1)
    quantiles = np.sort(random.standard_normal((500, 4, 3)), axis=2)
    actual = 2 * random.standard_normal((500, 4))
    calibrated = Calibration.fit(actual, quantiles).apply(quantiles)
    assert (np.diff(calibrated, axis=2) >= 0).all()
    normal = np.broadcast_to(np.array([-1.0, 0.0, 1.0]), (500, 4, 3)).copy()
    fitted = Calibration.fit(actual / 2, normal)
    assert coverage(actual / 2, fitted.apply(normal)) == pytest.approx(0.8, abs=0.005)


def test_a_broken_model_is_not_stretched_without_bound_and_calm_weeks_draw_nothing_in() -> None:
    assert width_factors(np.full((30, 1), 9.0), np.zeros((30, 1, 3))).tolist() == [2.0]
    band = np.broadcast_to(np.array([-1.0, 0.0, 1.0]), (30, 1, 3))
    assert width_factors(np.full((30, 1), 0.1), band).tolist() == [1.0]


def test_the_naive_band_grows_with_the_root_of_the_horizon() -> None:
    quantiles = naive_quantiles(np.array([0.01]), 4)
    assert quantiles[0, 0].tolist() == pytest.approx([-0.012815515655, 0.0, 0.012815515655])
    np.testing.assert_allclose(quantiles[0, 3], 2 * quantiles[0, 0])


def test_the_naive_band_covers_four_in_five_of_a_normal_walk() -> None:
    walk = np.random.default_rng(2).standard_normal((20_000, 3)).cumsum(axis=1) * 0.01
    assert coverage(walk, naive_quantiles(np.full(20_000, 0.01), 3)) == pytest.approx(0.8, abs=0.01)
