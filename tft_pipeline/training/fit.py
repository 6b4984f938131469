"""The fit: random windows of the training part, judged after each epoch on the newest part of the history."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from tft_pipeline import __version__
from tft_pipeline.config import TrainingSettings
from tft_pipeline.errors import LeakageError, TrainingError
from tft_pipeline.training import calibration, model
from tft_pipeline.training.average import AveragedWeights
from tft_pipeline.training.device import Place, place, seeded, threads
from tft_pipeline.training.gather import UNKNOWN, Windows, ticker_codes
from tft_pipeline.training.identity import config_of, data_fingerprint, model_id_of, utc, variables
from tft_pipeline.training.inference import quantiles_in_units
from tft_pipeline.training.measure import measured
from tft_pipeline.training.memory import fitting_batch_size, halved, out_of_memory
from tft_pipeline.training.scaling import Scaler
from tft_pipeline.training.split import Split, split_by_time
from tft_pipeline.training.trained import TrainedModel
from tft_pipeline.training.windows import Panel, left_out

# Now and then a ticker hides its name, so that the reserved code learns what all have in common: it will serve new tickers.
_ANONYMOUS_SHARE = 0.05


@dataclass(frozen=True)
class EpochReport:
    """Losses: mean pinball in units of volatility_35h * sqrt(h). epoch counts from 1. best: the best so far."""

    epoch: int
    training_loss: float
    validation_loss: float
    best: bool
    learning_rate: float  # at the epoch's end
    seconds: float


def fit(
    features: pd.DataFrame,
    calendar: pd.DataFrame,
    settings: TrainingSettings,
    *,
    seed: int,
    trained_as_of: datetime,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> TrainedModel:
    """A model that knows nothing later than trained_as_of.

    features: contracts.FEATURES. calendar: all expected bars with the known features (windows.py). On one device the same
    arguments give the same weights, bit for bit on the CPU.
    Raises LeakageError when a bar ends after trained_as_of, ContractError for frames that break their contract, ConfigError for
    settings that make no sense, TrainingError when there is too little history, memory runs out at the smallest batch, or the
    loss is no longer a number (FAULTS 34): then there is no model.
    """
    started = time.perf_counter()
    as_of = utc(trained_as_of, "trained_as_of")
    _refuse_later(features, as_of)
    observed, known = variables(settings)
    panel = Panel.from_frames(features, calendar, observed=observed, known=known)
    window = {"encoder_bars": settings.encoder_bars, "horizon_hours": settings.horizon_hours}
    split = split_by_time(panel, **window, validation_share=settings.validation_share)
    tickers = tuple(panel.tickers[i] for i in np.unique(split.training // panel.n_bars))
    observed_scaler, known_scaler = _scalers(panel, split, observed, known)
    where = place(settings.device)
    codes = ticker_codes(panel, tickers)
    with threads(settings.hidden_size) as n_threads, seeded(seed, where.device) as generator:
        windows = Windows(panel, observed_scaler, known_scaler, codes, **window, device=where.device)
        network = model.build(settings, observed=observed, known=known, n_tickers=len(tickers)).to(where.device)
        training = _Training(
            network, windows, split.training, split.validation, settings=settings, where=where, generator=generator
        )
        network, epochs = training.run(on_epoch)
        quantiles = quantiles_in_units(network, windows, split.validation)
        validation = torch.from_numpy(split.validation).to(where.device)
        actual = windows.targets(validation).double().cpu().numpy()
        calibrated = calibration.Calibration.fit(actual, quantiles)
        metrics = {
            **measured(windows, validation, quantiles),
            "median_share": calibrated.median_share,
            "validation_loss": float(calibration.pinball(actual, quantiles).mean()),
            "epochs_run": len(epochs),
            "epochs": [_without_time(epoch) for epoch in epochs],
            "training_windows": len(split.training),
            "validation_windows": len(split.validation),
            "validation_from": f"{panel.bar_end[split.validation_begins]}Z",
            "batch_size": training.batch_size,
            "device": str(where.device),
            "device_remark": where.remark,
            "precision": where.precision,
            "threads": n_threads,
            "parameters": sum(p.numel() for p in network.parameters()),
            "dropped_tickers": _dropped(panel, split, **window),
            "seconds": round(time.perf_counter() - started, 3),
            "samples_per_second": round(training.samples / max(training.seconds, 1e-9), 1),
        }
    fingerprint = data_fingerprint(features, settings)
    return TrainedModel(
        model_id=model_id_of(fingerprint, config_of(settings, seed=seed), as_of),
        trained_as_of=as_of,
        settings=settings,
        seed=seed,
        tickers=tickers,
        observed=observed,
        known=known,
        observed_scaler=observed_scaler,
        known_scaler=known_scaler,
        calibration=calibrated,
        network=network.cpu(),
        data_fingerprint=fingerprint,
        code_version=__version__,
        metrics=metrics,
    )


class _Training:
    """One run of epochs over a network."""

    def __init__(
        self,
        network: model.ForecastNetwork,
        windows: Windows,
        training: npt.NDArray[np.int64],
        validation: npt.NDArray[np.int64],
        *,
        settings: TrainingSettings,
        where: Place,
        generator: torch.Generator,
    ) -> None:
        self.network, self.windows, self.settings = network, windows, settings
        self.training, self.validation = torch.from_numpy(training), torch.from_numpy(validation)
        self.where, self.generator = where, generator
        self.levels = torch.tensor(calibration.QUANTILE_LEVELS, device=where.device)
        self.average = AveragedWeights(network)
        self.optimizer = self._new_optimizer(network)
        self.batch_size = fitting_batch_size(self._attempt, min(settings.batch_size, len(training)))
        self.samples, self.seconds = 0, 0.0

    def run(self, on_epoch: Callable[[EpochReport], None] | None) -> tuple[model.ForecastNetwork, list[EpochReport]]:
        """The network with the best averaged weights, and a report for each epoch."""
        reports: list[EpochReport] = []
        best_loss, best_weights, worse = math.inf, copy.deepcopy(self.average.network.state_dict()), 0
        for epoch in range(1, self.settings.max_epochs + 1):
            started = time.perf_counter()
            training_loss = self._epoch(epoch)
            self.seconds += time.perf_counter() - started
            validation_loss = self._validation_loss()
            _refuse_nan(validation_loss, f"the validation loss of epoch {epoch}", self.settings)
            best = validation_loss < best_loss
            worse = 0 if best else worse + 1
            if best:
                best_loss, best_weights = validation_loss, copy.deepcopy(self.average.network.state_dict())
            rate = float(self.optimizer.param_groups[0]["lr"])
            report = EpochReport(epoch, training_loss, validation_loss, best, rate, time.perf_counter() - started)
            reports.append(report)
            if on_epoch:
                on_epoch(report)
            if worse >= self.settings.patience:
                break
        self.average.network.load_state_dict(best_weights)
        return self.average.network, reports

    def _epoch(self, epoch: int) -> float:
        """Mean training loss over windows_per_epoch windows. Memory that runs out on the way halves the batch here too."""
        self.network.train()
        order = torch.cat(list(self._shuffled(self.settings.windows_per_epoch)))
        position, total = 0, 0.0
        while position < len(order):
            chosen = order[position : position + self.batch_size]
            done = (epoch - 1 + position / len(order)) / self.settings.max_epochs
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * _cosine(done)
            try:
                loss = self._step(self.network, self.optimizer, chosen)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self.batch_size = halved(self.batch_size, error)
                continue
            _refuse_nan(loss, f"the loss of epoch {epoch}", self.settings)
            self.average.update(self.network)
            total += loss * len(chosen)
            position += len(chosen)
        self.samples += len(order)
        return total / len(order)

    def _shuffled(self, wanted: int) -> Iterator[Tensor]:
        """Training origins, (wanted,) in all: each once before any comes again."""
        while wanted > 0:
            yield self.training[torch.randperm(len(self.training), generator=self.generator)[:wanted]]
            wanted -= len(self.training)

    def _step(self, network: model.ForecastNetwork, optimizer: torch.optim.Optimizer, chosen: Tensor) -> float:
        origins = chosen.to(self.where.device)
        encoder, decoder, ticker = self.windows.inputs(origins)
        hidden = torch.rand(len(chosen), generator=self.generator) < _ANONYMOUS_SHARE
        ticker = ticker.masked_fill(hidden.to(self.where.device), UNKNOWN)
        optimizer.zero_grad(set_to_none=True)
        with self.where.mixed_precision():
            quantiles = network(encoder, decoder, ticker)  # (B, H, 3)
        error = self.windows.targets(origins)[..., None] - quantiles
        loss = torch.maximum(self.levels * error, (self.levels - 1) * error).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), self.settings.gradient_clip)
        optimizer.step()
        return float(loss.detach())

    def _attempt(self, batch_size: int) -> None:
        """One whole step on copies: what it teaches, and the random numbers that it takes, are thrown away."""
        before = self.generator.get_state()
        network = copy.deepcopy(self.network).train()
        with torch.random.fork_rng(devices=[self.where.device] if self.where.device.type == "cuda" else []):
            self._step(network, self._new_optimizer(network), self.training[:batch_size])
        self.generator.set_state(before)

    def _validation_loss(self) -> float:
        quantiles = quantiles_in_units(self.average.network, self.windows, self.validation.numpy())
        origins = self.validation.to(self.where.device)
        return float(calibration.pinball(self.windows.targets(origins).double().cpu().numpy(), quantiles).mean())

    def _new_optimizer(self, network: model.ForecastNetwork) -> torch.optim.Optimizer:
        # Fused: a thousand small tensors would otherwise cost a thousand calls a step.
        return torch.optim.AdamW(
            network.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay, fused=True
        )


def _without_time(report: EpochReport) -> dict[str, Any]:
    return {name: value for name, value in asdict(report).items() if name != "seconds"}


def _cosine(done: float) -> float:
    """From 1 to 0 over the run (Loshchilov, Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * done))


def _refuse_nan(loss: float, what: str, settings: TrainingSettings) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"training stopped: {what} is {loss}, so the weights are worthless and no model is kept. "
            f"Lower TFT_TRAINING_LEARNING_RATE (now {settings.learning_rate}) or look for absurd values in features.hourly."
        )


def _refuse_later(features: pd.DataFrame, as_of: datetime) -> None:
    later = features["bar_end"] > as_of if len(features) else pd.Series(dtype=bool)
    if later.any():
        first = features.loc[later, ["ticker", "bar_end"]].sort_values("bar_end").iloc[0]
        raise LeakageError(
            f"features.hourly: {int(later.sum())} bar(s) end after trained_as_of={as_of:%Y-%m-%d %H:%M:%S} UTC, first "
            f"{first['ticker']} bar_end={first['bar_end']}. Read features up to that moment only."
        )


def _scalers(panel: Panel, split: Split, observed: tuple[str, ...], known: tuple[str, ...]) -> tuple[Scaler, Scaler]:
    """Fitted on held bars before validation begins: these are all that a training window's encoder can see."""
    held = panel.held.copy()
    held[:, split.validation_begins :] = False
    bars = np.flatnonzero(held.any(axis=0))
    return Scaler.fit(panel.observed[held], observed), Scaler.fit(panel.known[bars], known)


def _dropped(panel: Panel, split: Split, *, encoder_bars: int, horizon_hours: int) -> dict[str, str]:
    """{ticker: why it taught the model nothing}."""
    used = np.zeros_like(panel.held)
    used.ravel()[split.training] = True
    return left_out(panel, used, encoder_bars, horizon_hours)
