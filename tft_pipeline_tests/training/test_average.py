import pytest
import torch

from tft_pipeline.training import model
from tft_pipeline.training.average import AveragedWeights
from tft_pipeline_tests.training.examples import tiny


def test_the_mean_follows_the_steps_and_soon_forgets_the_beginning() -> None:
    torch.manual_seed(0)
    trained = model.build(tiny(), observed=("return_1h",), known=("hour_sin",), n_tickers=1)
    average = AveragedWeights(trained)
    bias, mean = trained.transformer.output_layer.bias, average.network.transformer.output_layer.bias
    with torch.no_grad():
        bias.fill_(0.0)
    for _ in range(2):
        average.update(trained)
    # keeps 1/10, then 2/11 of the beginning
    assert mean.tolist() == pytest.approx([-1.28155 * 0.1 * 2 / 11, 0.0, 1.28155 * 0.1 * 2 / 11], abs=1e-5)
    with torch.no_grad():
        bias.fill_(1.0)
    before = mean.clone()
    for _ in range(2000):
        average.update(trained)
    assert (mean > 0.999).all() and not torch.equal(before, mean)  # noqa: PT018
    assert not average.network.training
    assert not mean.requires_grad
