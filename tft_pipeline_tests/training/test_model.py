import pytest
import torch

from tft_pipeline.config import TrainingSettings
from tft_pipeline.contracts import KNOWN_FEATURES, OBSERVED_FEATURES
from tft_pipeline.errors import ConfigError
from tft_pipeline.training import model
from tft_pipeline.training.identity import variables
from tft_pipeline_tests.training.examples import tiny

OBSERVED, KNOWN = ("return_1h", "macd", "breadth_1h"), ("hour_sin", "session_progress")


def network() -> model.ForecastNetwork:
    torch.manual_seed(0)
    return model.build(tiny(), observed=OBSERVED, known=KNOWN, n_tickers=2).eval()


def inputs(n: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(n, 8, 5), torch.randn(n, 3, 2), torch.arange(n) % 3


def test_gives_three_quantiles_for_each_bar_ahead() -> None:
    with torch.no_grad():
        assert network()(*inputs()).shape == (16, 3, 3)


def test_begins_at_the_normal_band() -> None:
    untrained = network()
    assert untrained.transformer.output_layer.bias.tolist() == pytest.approx([-1.2816, 0.0, 1.2816], abs=1e-4)


def test_crossing_quantiles_are_impossible() -> None:
    crossed = network()
    with torch.no_grad():
        crossed.transformer.output_layer.bias.copy_(torch.tensor([5.0, 0.0, -5.0]))  # P10 far above P90
        quantiles = crossed(*inputs(200))
    assert (quantiles.diff(dim=2) >= 0).all()
    assert quantiles[..., 0].max() < 0 < quantiles[..., 2].min()


def test_each_weight_is_kept_once() -> None:
    weights = model.weights_of(network())
    assert len({tensor.data_ptr() for tensor in weights.values()}) == len(weights)
    assert set(weights) == set(dict(network().named_parameters()))
    assert not list(network().named_buffers())


def test_the_calendar_ahead_matters_and_so_does_the_ticker() -> None:
    tft, (encoder, decoder, ticker) = network(), inputs()
    with torch.no_grad():
        assert not torch.equal(tft(encoder, decoder, ticker), tft(encoder, decoder + 1, ticker))
        assert not torch.equal(tft(encoder, decoder, ticker), tft(encoder, decoder, (ticker + 1) % 3))


def test_inputs_follow_the_order_of_the_contract() -> None:
    assert variables(tiny(inputs=("hour_sin", "macd", "return_1h"))) == (("return_1h", "macd"), ("hour_sin",))


def test_all_features_but_the_month_are_read_unless_chosen() -> None:
    observed, known = variables(TrainingSettings())
    assert observed == tuple(column.name for column in OBSERVED_FEATURES)
    assert set(known) == {column.name for column in KNOWN_FEATURES} - {"month_sin", "month_cos"}


def test_an_input_that_is_no_feature_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="TFT_TRAINING_INPUTS: 'moon_phase' is no feature"):
        variables(tiny(inputs=("return_1h", "hour_sin", "moon_phase")))
    with pytest.raises(ConfigError, match="at least one observed and one calendar feature"):
        variables(tiny(inputs=("return_1h", "macd")))
