"""Training samples a second: our windows, gathered from arrays, against pytorch-forecasting's TimeSeriesDataSet, same module, same data."""

import statistics
import tempfile
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.timing import Contender, seconds_in_turn, table
from tft_pipeline import config
from tft_pipeline.config import Settings, TrainingSettings
from tft_pipeline.contracts import HOURLY_SENTIMENT
from tft_pipeline.features.calendar import known_features
from tft_pipeline.features.matrix import feature_matrix
from tft_pipeline.market.actions import dividend_on, split_factor
from tft_pipeline.market.sessions import Calendar
from tft_pipeline.sources.opening import open_bars
from tft_pipeline.training.fit import fit
from tft_pipeline.training.identity import variables

SAMPLES = 4096
BATCH = 256
PEER = "pytorch-forecasting: TimeSeriesDataSet and its loader"
OURS = "tft_pipeline: windows gathered from arrays"


def frames(settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """FEATURES and calendar of the simulated market, without posts."""
    source = open_bars(settings, until=datetime.now(UTC))
    span = source.span()
    if span is None:
        raise RuntimeError("the simulated market knows its span")
    bars, actions = source.bars(source.universe(), span).frame, source.actions(source.universe(), span).frame
    grid = Calendar("XNYS").bar_grid(
        (span.start - timedelta(days=14)).date(), (span.end + timedelta(days=14)).date(), phase_minutes=0
    )
    bars = bars.assign(split_factor=split_factor(bars, actions), dividend=dividend_on(bars, actions))
    return feature_matrix(bars, HOURLY_SENTIMENT.empty(), grid), known_features(grid)


def run(runs: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        settings = config.load(home=Path(folder), start=config.today() - timedelta(days=300))
    features, calendar = frames(settings)
    first = features["bar_start"].min()
    calendar = calendar[calendar["bar_start"] >= first].reset_index(drop=True)
    training = TrainingSettings(
        **{
            **settings.training.model_dump(),
            "max_epochs": 1,
            "windows_per_epoch": SAMPLES,
            "batch_size": BATCH,
            "device": "cpu",
        }
    )
    as_of = features["bar_end"].max().to_pydatetime()
    rates: list[float] = []

    def ours() -> None:
        rates.append(fit(features, calendar, training, seed=7, trained_as_of=as_of).metrics["samples_per_second"])

    loader, network = _peer(features, training)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def peer() -> None:
        done = 0
        for inputs, (target, _) in loader:
            optimiser.zero_grad(set_to_none=True)
            loss = network.loss(network(inputs)["prediction"], target)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            done += len(target)
            if done >= SAMPLES:
                return

    torch.set_num_threads(1)
    seconds = seconds_in_turn({PEER: Contender(peer), OURS: Contender(ours)}, runs=runs)
    # fit also splits, scales and calibrates, which the peer's loop does not: only its passes over samples are compared.
    taken = {PEER: seconds[PEER], OURS: SAMPLES / statistics.median(rates[1:])}
    observed, known = variables(training)
    shape = f"{len(observed)} observed and {len(known)} known inputs, encoder {training.encoder_bars}, horizon {training.horizon_hours}, hidden {training.hidden_size}"
    return table(
        f"Training, the same TemporalFusionTransformer module ({shape}, batch {BATCH}, one CPU thread)", "samples", SAMPLES, taken,
        reference=PEER,
    )  # fmt: skip


def _peer(features: pd.DataFrame, settings: TrainingSettings) -> tuple[Any, Any]:
    """The library's own data set, loader and model on the same rows and columns."""
    from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
    from pytorch_forecasting.metrics import QuantileLoss

    observed, known = variables(settings)
    rows = features.assign(step=features.groupby("ticker").cumcount(), target=features["return_1h"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = TimeSeriesDataSet(
            rows, time_idx="step", target="target", group_ids=["ticker"], static_categoricals=["ticker"],
            max_encoder_length=settings.encoder_bars, min_encoder_length=settings.encoder_bars,
            max_prediction_length=settings.horizon_hours, min_prediction_length=settings.horizon_hours,
            time_varying_known_reals=list(known), time_varying_unknown_reals=list(observed),
        )  # fmt: skip
        network = TemporalFusionTransformer.from_dataset(
            data, hidden_size=settings.hidden_size, attention_head_size=settings.attention_heads, dropout=settings.dropout,
            hidden_continuous_size=settings.hidden_size, output_size=3, loss=QuantileLoss([0.1, 0.5, 0.9]),
        )  # fmt: skip
    return data.to_dataloader(train=True, batch_size=BATCH, num_workers=0), network
