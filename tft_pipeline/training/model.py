"""The network: pytorch-forecasting's TemporalFusionTransformer module, fed from tensors instead of its data set."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tft_pipeline.config import TrainingSettings
from tft_pipeline.training.calibration import NORMAL_QUANTILES, QUANTILE_LEVELS


class ForecastNetwork(nn.Module):
    """Windows in the model's units to quantiles that cannot cross.

    Ticker code 0 is nobody's: it stands for tickers that were not trained on. V observed and K known variables.
    """

    def __init__(self, transformer: nn.Module, n_observed: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.n_observed = n_observed

    def forward(self, encoder: Tensor, decoder: Tensor, ticker: Tensor) -> Tensor:
        """encoder (B, E, V + K), decoder (B, H, K), ticker (B,) int64 -> (B, H, 3): P10, P50, P90.

        The three outputs are sorted rather than built from increments: the library's weights keep their meaning, and putting
        crossed quantiles in order never raises the pinball loss (Chernozhukov, Fernández-Val, Galichon 2010).
        """
        n, past, ahead = encoder.shape[0], encoder.shape[1], decoder.shape[1]
        # The library's decoder tensor has a place for every variable; it reads only the known ones.
        unread = decoder.new_zeros(n, ahead, self.n_observed)
        code = ticker[:, None, None]  # (B, 1, 1)
        output = self.transformer(
            {
                "encoder_cont": encoder,
                "decoder_cont": torch.cat([unread, decoder], dim=2),
                "encoder_cat": code.expand(n, past, 1),
                "decoder_cat": code.expand(n, ahead, 1),
                "encoder_lengths": torch.full((n,), past, device=encoder.device),
                "decoder_lengths": torch.full((n,), ahead, device=encoder.device),
                "target_scale": decoder.new_zeros(n, 2),
            }
        )
        prediction: Tensor = output["prediction"]
        return prediction.float().sort(dim=2).values


def build(
    settings: TrainingSettings, *, observed: Sequence[str], known: Sequence[str], n_tickers: int
) -> ForecastNetwork:
    """A new network, weights drawn from torch's global generator. n_tickers: those trained on; one code more is reserved."""
    from pytorch_forecasting.metrics import QuantileLoss
    from pytorch_forecasting.models.temporal_fusion_transformer import TemporalFusionTransformer

    reals = [*observed, *known]
    with warnings.catch_warnings():
        # Lightning would rather not see modules among hyper-parameters; the library itself puts them there.
        warnings.filterwarnings(
            "ignore", message=r"Attribute '.*' is an instance of `nn\.Module`", category=UserWarning
        )
        transformer = TemporalFusionTransformer(
            hidden_size=settings.hidden_size,
            hidden_continuous_size=min(8, settings.hidden_size),
            attention_head_size=settings.attention_heads,
            dropout=settings.dropout,
            max_encoder_length=settings.encoder_bars,
            output_size=len(QUANTILE_LEVELS),
            loss=QuantileLoss(quantiles=list(QUANTILE_LEVELS)),
            logging_metrics=nn.ModuleList(),
            output_transformer=_prediction,
            static_categoricals=["ticker"],
            x_categoricals=["ticker"],
            embedding_sizes={"ticker": (n_tickers + 1, min(8, settings.hidden_size))},
            time_varying_reals_encoder=reals,
            time_varying_reals_decoder=list(known),
            x_reals=reals,
        )
    with torch.no_grad():
        transformer.output_layer.bias.copy_(torch.tensor(NORMAL_QUANTILES))  # so training begins at the naive band
    return ForecastNetwork(transformer, len(observed))


def _prediction(output: dict[str, Any]) -> Any:
    """What the library would undo its own target scaling with; ours is undone by forecasts.predict."""
    return output["prediction"]


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """{name: tensor on the CPU}, each parameter once: the library registers some under several names."""
    return {name: parameter.detach().cpu().clone() for name, parameter in network.named_parameters()}
