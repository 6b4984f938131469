"""The fit: reproducible, blind to the future, and refusing to hand over what is worthless."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tft_pipeline.config import TrainingSettings
from tft_pipeline.errors import LeakageError, TrainingError
from tft_pipeline.training import fit as fit_module
from tft_pipeline.training import model as network_module
from tft_pipeline.training.artifacts import dump
from tft_pipeline.training.device import Place
from tft_pipeline.training.fit import EpochReport, fit
from tft_pipeline.training.identity import planned_model_id
from tft_pipeline.training.model import ForecastNetwork, weights_of
from tft_pipeline.training.trained import TrainedModel
from tft_pipeline_tests.training.examples import calendar_of, features_of, tiny

Frames = tuple[pd.DataFrame, pd.DataFrame, pd.Timestamp]


@pytest.fixture
def frames(features: pd.DataFrame, calendar: pd.DataFrame, as_of: pd.Timestamp) -> Frames:
    return features, calendar, as_of


def fitted(frames: Frames, *, seed: int = 3, **changes: Any) -> TrainedModel:
    features, calendar, as_of = frames
    return fit(
        features,
        calendar,
        tiny(**{"max_epochs": 1, "windows_per_epoch": 64, **changes}),
        seed=seed,
        trained_as_of=as_of,
    )


def weights(model: TrainedModel) -> torch.Tensor:
    return torch.cat([tensor.ravel() for tensor in weights_of(model.network).values()])


def test_the_same_seed_gives_the_same_weights_and_the_same_artifact(frames: Frames, model: TrainedModel) -> None:
    torch.rand(17)  # whatever was drawn before does not matter
    features, calendar, as_of = frames
    again = fit(features.sample(frac=1, random_state=0), calendar, tiny(), seed=3, trained_as_of=as_of)
    assert torch.equal(weights(again), weights(model))
    assert dump(again) == dump(model)


def test_another_seed_gives_other_weights_and_another_name(frames: Frames) -> None:
    one, other = fitted(frames), fitted(frames, seed=4)
    assert not torch.equal(weights(one), weights(other))
    assert one.model_id != other.model_id


def test_the_name_is_known_before_training(frames: Frames, model: TrainedModel) -> None:
    features, _, as_of = frames
    shuffled = features.sample(frac=1, random_state=5)
    assert planned_model_id(shuffled, tiny(), seed=3, trained_as_of=as_of) == model.model_id
    assert model.model_id.startswith(f"tft-{as_of:%Y%m%d}-")
    assert planned_model_id(features, tiny(device="auto"), seed=3, trained_as_of=as_of) == model.model_id
    changed = features.assign(macd=0.0)  # not among the inputs
    assert planned_model_id(changed, tiny(), seed=3, trained_as_of=as_of) == model.model_id
    touched = features.assign(return_1h=features["return_1h"] * (1 + 1e-12))
    for other in (
        planned_model_id(touched, tiny(), seed=3, trained_as_of=as_of),
        planned_model_id(features, tiny(dropout=0.2), seed=3, trained_as_of=as_of),
        planned_model_id(features, tiny(), seed=3, trained_as_of=as_of + pd.Timedelta(hours=1)),
    ):
        assert other != model.model_id


def test_a_bar_after_the_moment_of_training_is_refused(frames: Frames) -> None:
    features, calendar, as_of = frames
    with pytest.raises(LeakageError, match=r"3 bar\(s\) end after trained_as_of=2024-02-28 19:59:59 UTC, first T00"):
        fit(features, calendar, tiny(), seed=1, trained_as_of=as_of - pd.Timedelta(microseconds=1))
    with pytest.raises(LeakageError, match="has no time zone"):
        fit(features, calendar, tiny(), seed=1, trained_as_of=as_of.tz_localize(None))


def test_scalers_know_the_training_part_only(frames: Frames, model: TrainedModel) -> None:
    features, calendar, as_of = frames
    later = features["bar_end"] >= pd.Timestamp(model.metrics["validation_from"])
    assert 0 < later.sum() < len(features) / 2
    changed = features.copy()
    changed.loc[later, ["return_1h", "sentiment_score", "volatility_35h"]] *= 3
    other = fitted((changed, calendar.assign(session_progress=calendar["session_progress"]), as_of))
    for name in ("observed_scaler", "known_scaler"):
        np.testing.assert_array_equal(getattr(other, name).center, getattr(model, name).center)
        np.testing.assert_array_equal(getattr(other, name).spread, getattr(model, name).spread)


def test_weights_never_see_the_validation_part(frames: Frames) -> None:
    """One epoch: the newest part then decides nothing, so the weights must not move with it."""
    features, calendar, as_of = frames
    one = fitted(frames)
    later = features["bar_end"] >= pd.Timestamp(one.metrics["validation_from"])
    changed = features.copy()
    changed.loc[later, ["return_1h", "log_price", "sentiment_score"]] += 0.3
    other = fitted((changed, calendar, as_of))
    assert torch.equal(weights(one), weights(other))
    assert one.metrics["validation_pinball"] != other.metrics["validation_pinball"]


def test_a_loss_that_is_not_a_number_stops_the_fit(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, lambda output, _: output * float("nan"))
    with pytest.raises(TrainingError, match=r"the loss of epoch 1 is nan.*TFT_TRAINING_LEARNING_RATE \(now 0.01\)"):
        fitted(frames)


def test_weights_that_blow_up_stop_the_fit(frames: Frames) -> None:
    with pytest.raises(TrainingError, match="training stopped"):
        fitted(frames, learning_rate=1.0, weight_decay=1e38, max_epochs=3)


def broken(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """From now on a network's outputs pass through change(output, batch size)."""

    class Broken(ForecastNetwork):
        def forward(self, encoder: torch.Tensor, decoder: torch.Tensor, ticker: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = change(super().forward(encoder, decoder, ticker), len(ticker))
            return output

    monkeypatch.setattr(network_module, "ForecastNetwork", Broken)


def stepped(frames: Frames, **changes: Any) -> list[tuple[torch.optim.Optimizer, float]]:
    """Of a fit: the optimizer of each step, and the norm of the gradients that it was given."""
    seen: list[tuple[torch.optim.Optimizer, float]] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        seen.append((optimizer, float(torch.nn.utils.get_total_norm(gradients))))

    hook = register_optimizer_step_pre_hook(look)
    try:
        fitted(frames, **changes)
    finally:
        hook.remove()
    return seen


def test_gradients_are_clipped_to_one(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrainingSettings().gradient_clip == 1.0
    broken(monkeypatch, lambda output, _: output * 1e6)  # and so are the gradients
    norms = [norm for _, norm in stepped(frames, gradient_clip=1.0)]
    assert norms == pytest.approx([1.0] * len(norms), rel=1e-4)
    assert min(norm for _, norm in stepped(frames, gradient_clip=1e12)) > 1e4


def test_steps_are_adamws_with_the_decay_that_was_set(frames: Frames) -> None:
    optimizers = [optimizer for optimizer, _ in stepped(frames, weight_decay=0.25)]
    assert {type(optimizer) for optimizer in optimizers} == {torch.optim.AdamW}
    assert {group["weight_decay"] for optimizer in optimizers for group in optimizer.param_groups} == {0.25}


def test_mixed_precision_computes_in_bf16_and_keeps_weights_in_fp32(
    frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU, which the pipeline leaves at fp32 (device.place), but which torch's autocast can do."""
    plain = fitted(frames)
    monkeypatch.setattr(fit_module, "place", lambda _: Place(torch.device("cpu"), torch.bfloat16))
    computed_in = set()

    def look(module: torch.nn.Module, _: Any, output: Any) -> None:
        if isinstance(module, torch.nn.Linear) and torch.is_grad_enabled():
            computed_in.add(output.dtype)

    hook = register_module_forward_hook(look)
    try:
        mixed = fitted(frames)
    finally:
        hook.remove()
    assert computed_in == {torch.bfloat16}
    assert {tensor.dtype for tensor in mixed.network.state_dict().values() if tensor.is_floating_point()} == {
        torch.float32
    }
    assert mixed.metrics["precision"] == "bf16 autocast"
    assert not torch.equal(weights(mixed), weights(plain))
    assert mixed.metrics["validation_pinball"] == pytest.approx(plain.metrics["validation_pinball"], rel=0.05)


def test_memory_that_runs_out_halves_the_batch_and_goes_on(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(output: torch.Tensor, n: int) -> torch.Tensor:
        if torch.is_grad_enabled() and n > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return output

    broken(monkeypatch, change)
    assert fitted(frames, batch_size=64).metrics["batch_size"] == 16


def test_memory_that_runs_out_later_halves_the_batch_too(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def change(output: torch.Tensor, n: int) -> torch.Tensor:
        if torch.is_grad_enabled():
            calls.append(n)
            if len(calls) == 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return output

    broken(monkeypatch, change)
    assert fitted(frames, windows_per_epoch=256, batch_size=64).metrics["batch_size"] == 32
    assert calls == [64, 64, 64, *[32] * 6]  # the attempt, the first step, the one that failed, and the rest of 256


def test_another_error_in_a_step_is_not_mistaken_for_memory(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def change(output: torch.Tensor, n: int) -> torch.Tensor:
        calls.append(n)
        if len(calls) == 2:
            raise RuntimeError("a kernel is missing")
        return output

    broken(monkeypatch, change)
    with pytest.raises(RuntimeError, match="a kernel is missing"):
        fitted(frames)


def test_it_stops_when_nothing_gets_better_and_keeps_the_best(frames: Frames) -> None:
    features, calendar, as_of = frames
    reports: list[EpochReport] = []
    settings = tiny(max_epochs=30, patience=2, learning_rate=0.5, windows_per_epoch=128)
    stopped = fit(features, calendar, settings, seed=3, trained_as_of=as_of, on_epoch=reports.append)
    assert [report.epoch for report in reports] == list(range(1, len(reports) + 1))
    assert len(reports) == stopped.metrics["epochs_run"] < 30
    assert [report.best for report in reports][-3:] == [True, False, False]
    assert stopped.metrics["validation_loss"] == min(report.validation_loss for report in reports)
    assert reports[0].learning_rate > reports[-1].learning_rate


def test_the_rate_falls_along_a_cosine(frames: Frames) -> None:
    features, calendar, as_of = frames
    reports: list[EpochReport] = []
    settings = tiny(max_epochs=2, windows_per_epoch=128, batch_size=64, learning_rate=0.01)
    fit(features, calendar, settings, seed=3, trained_as_of=as_of, on_epoch=reports.append)
    # Steps at 0, 1/4, 2/4, 3/4 of the run: (1 + cos π/4) / 2, (1 + cos 3π/4) / 2
    assert [report.learning_rate for report in reports] == pytest.approx([0.01 * 0.853553, 0.01 * 0.146447], rel=1e-5)


def test_metrics_are_plain_json_and_name_who_was_dropped(
    calendar: pd.DataFrame, features: pd.DataFrame, as_of: pd.Timestamp
) -> None:
    short = features[(features["ticker"] != "T01") | (features["bar_end"] > as_of - pd.Timedelta(hours=5))]
    metrics = fitted((short, calendar, as_of)).metrics
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert list(metrics["dropped_tickers"]) == ["T01"]
    assert metrics["dropped_tickers"]["T01"].startswith("5 bars are held")
    assert (metrics["device"], metrics["precision"]) == ("cpu", "fp32")
    assert metrics["training_windows"] > metrics["validation_windows"] > 0
    assert metrics["validation_skill"] == pytest.approx(
        1 - metrics["validation_pinball"] / metrics["validation_baseline_pinball"]
    )


def test_prices_that_never_move_cannot_be_trained_on(
    calendar: pd.DataFrame, features: pd.DataFrame, as_of: pd.Timestamp
) -> None:
    with pytest.raises(TrainingError, match="too little history"):
        fitted((features.assign(volatility_35h=0.0), calendar, as_of))


def test_finds_what_is_planted_and_calibrates_its_band() -> None:
    calendar = calendar_of(910)
    features = features_of(calendar.iloc[:900], tickers=4, strength=0.6)
    settings = tiny(encoder_bars=4, hidden_size=8, horizon_hours=2, max_epochs=5, windows_per_epoch=1500, patience=5)
    found = fit(features, calendar, settings, seed=1, trained_as_of=features["bar_end"].max())
    assert found.metrics["validation_skill"] > 0.05
    assert found.metrics["validation_skill_by_horizon"][0] > 0.1
    assert found.metrics["validation_p50_correlation"] > 0.3
    assert found.metrics["validation_direction_hit_rate"] > 0.55
    assert ((found.calibration.width_factors >= 1.0) & (found.calibration.width_factors < 1.4)).all()
    assert found.calibration.median_share > 0.5
