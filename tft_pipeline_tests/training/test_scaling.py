import numpy as np
import pytest

from tft_pipeline.training.scaling import LIMIT, Scaler


def test_scales_to_mean_zero_and_deviation_one() -> None:
    rows = np.array([[1.0], [3.0]], dtype=np.float32).repeat(500, axis=0)
    scaler = Scaler.fit(rows, ["return_1h"])
    assert (scaler.center[0], scaler.spread[0]) == (2.0, 1.0)
    assert scaler.apply(np.array([[4.0]], dtype=np.float32)).tolist() == [[2.0]]


def test_one_absurd_value_does_not_set_the_scale() -> None:
    rows = np.random.default_rng(0).standard_normal((2000, 1)).astype(np.float32)
    rows[7] = 1e6
    assert Scaler.fit(rows, ["return_1h"]).spread[0] == pytest.approx(1.0, abs=0.1)


def test_far_values_are_drawn_in_and_missing_ones_are_the_mean() -> None:
    scaler = Scaler(np.array([1.0]), np.array([2.0]), np.array([False]))
    values = np.array([1e9, -1e9, np.nan], dtype=np.float32)[:, None]
    assert scaler.apply(values)[:, 0].tolist() == [LIMIT, -LIMIT, 0.0]


def test_a_constant_stays_at_zero() -> None:
    scaler = Scaler.fit(np.full((10, 1), 5.0, dtype=np.float32), ["macd"])
    assert scaler.apply(np.array([[5.0]], dtype=np.float32)).tolist() == [[0.0]]


def test_a_variable_that_rarely_moves_keeps_its_own_deviation() -> None:
    rows = np.zeros((1000, 1), dtype=np.float32)
    rows[0] = 1.0
    assert Scaler.fit(rows, ["return_1h"]).spread[0] == pytest.approx(np.sqrt(0.001 * 0.999))


def test_sizes_of_moves_are_scaled_by_their_logarithm() -> None:
    rows = np.exp(np.array([[-5.0, 1.0], [-3.0, 3.0]], dtype=np.float32)).repeat(500, axis=0)
    scaler = Scaler.fit(rows, ["volatility_35h", "return_1h"])
    assert scaler.logarithmic.tolist() == [True, False]
    assert (scaler.center[0], scaler.spread[0]) == (pytest.approx(-4.0), pytest.approx(1.0))
    assert scaler.apply(np.array([[np.exp(-2.0), 0.0]], dtype=np.float32))[0, 0] == pytest.approx(2.0)
    assert scaler.apply(np.array([[0.0, 0.0]], dtype=np.float32))[0, 0] == -LIMIT  # a price that stood still
