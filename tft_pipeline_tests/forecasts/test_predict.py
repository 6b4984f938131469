"""Forecasts: the same bits in any company, blind to the future, one row for each bar that can be forecast."""

import dataclasses
from datetime import datetime
from functools import cached_property

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

from tft_pipeline import contracts, schema
from tft_pipeline.errors import ContractError, LeakageError
from tft_pipeline.forecasts.predict import not_forecast, predict
from tft_pipeline.training.artifacts import dump, load
from tft_pipeline.training.calibration import Calibration
from tft_pipeline.training.gather import Windows, ticker_codes
from tft_pipeline.training.trained import TrainedModel
from tft_pipeline.training.windows import Panel

DAY = pd.Timedelta(days=1)


@dataclasses.dataclass(frozen=True)
class World:
    """A model trained up to bar 299, bars up to 399, a calendar up to 409."""

    model: TrainedModel
    features: pd.DataFrame
    calendar: pd.DataFrame

    @property
    def begin(self) -> pd.Timestamp:
        """The first midnight after the training."""
        return self.calendar["bar_end"].iloc[299].ceil("D")

    @property
    def finish(self) -> pd.Timestamp:
        return self.calendar["bar_end"].iloc[400]

    @cached_property
    def forecasts(self) -> pd.DataFrame:
        """All that can be made, in one call."""
        return self.of(self.features)

    def of(self, features: pd.DataFrame) -> pd.DataFrame:
        return predict(self.model, features, self.calendar, start=self.begin, end=self.finish)


@pytest.fixture(scope="session")
def world(model: TrainedModel, features: pd.DataFrame, calendar: pd.DataFrame) -> World:
    return World(model, features, calendar)


def test_every_bar_after_training_is_forecast_for_each_horizon(world: World) -> None:
    schema.validate(world.forecasts, contracts.QUANTILES)
    assert len(world.forecasts) == int((world.features["bar_end"] >= world.begin).sum()) * 3
    assert set(world.forecasts["model_id"]) == {world.model.model_id}
    assert (world.forecasts["p90"] > world.forecasts["p10"]).all()


def test_the_target_is_the_next_expected_bar_nights_and_weekends_skipped(world: World) -> None:
    issued_at = pd.Timestamp("2024-03-01 20:00", tz="UTC")
    friday = world.forecasts[(world.forecasts["ticker"] == "T00") & (world.forecasts["issued_at"] == issued_at)]
    assert friday["target_at"].dt.strftime("%a %d %H:%M").tolist() == ["Fri 01 21:00", "Mon 04 15:00", "Mon 04 16:00"]


def test_a_day_alone_gives_the_same_bits_as_the_whole_range(world: World) -> None:
    for day in (world.begin, world.begin + DAY, world.begin + 7 * DAY):
        end = day + DAY
        ends = world.features["bar_end"]
        needed = world.features[(ends < end) & (ends >= day - 6 * DAY)]
        alone = predict(world.model, needed, world.calendar, start=day, end=end)
        issued_at = world.forecasts["issued_at"]
        within = world.forecasts[(issued_at >= day) & (issued_at < end)].reset_index(drop=True)
        assert len(alone)
        assert_frame_equal(alone, within, check_exact=True)


def test_one_ticker_alone_gives_the_same_bits_as_in_company(world: World) -> None:
    alone = world.of(world.features[world.features["ticker"] == "T01"])
    assert_frame_equal(
        alone, world.forecasts[world.forecasts["ticker"] == "T01"].reset_index(drop=True), check_exact=True
    )


def test_the_number_of_threads_moves_no_bit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tft_pipeline.training.device._LARGE", 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert_frame_equal(world.of(world.features), world.forecasts, check_exact=True)


def test_the_stored_model_forecasts_the_same_bits(world: World) -> None:
    stored = dataclasses.replace(world, model=load(dump(world.model)))
    assert_frame_equal(stored.forecasts, world.forecasts, check_exact=True)


def test_is_unchanged_by_anything_after_its_bar(world: World) -> None:
    cut = world.begin + 5 * DAY
    later = world.features["bar_end"] > cut
    crashed = world.features.copy()
    crashed.loc[later, ["log_price", "return_1h", "sentiment_score"]] -= 0.5
    crashed.loc[later, ["volatility_35h", "close"]] *= 3
    before = world.forecasts[world.forecasts["issued_at"] <= cut].reset_index(drop=True)
    for future in (crashed, world.features[~later]):
        changed = world.of(future)
        assert_frame_equal(changed[changed["issued_at"] <= cut].reset_index(drop=True), before, check_exact=True)


def test_issued_at_lies_within_start_and_end(world: World) -> None:
    first, second = sorted(world.forecasts["issued_at"].unique())[:2]
    asked = predict(world.model, world.features, world.calendar, start=first, end=second)
    assert asked["issued_at"].unique().tolist() == [first]
    nothing = predict(world.model, world.features, world.calendar, start=first, end=first)
    assert_frame_equal(nothing, contracts.QUANTILES.empty())


def test_quantiles_are_log_returns_with_the_band_calibrated(world: World) -> None:
    model = world.model
    panel = Panel.from_frames(world.features, world.calendar, observed=model.observed, known=model.known)
    origin = torch.tensor([panel.n_bars + 350])  # bar 350 of T01
    windows = Windows(
        panel,
        model.observed_scaler,
        model.known_scaler,
        ticker_codes(panel, model.tickers),
        encoder_bars=8,
        horizon_hours=3,
        device=torch.device("cpu"),
    )
    with torch.inference_mode():
        raw = model.network(*windows.inputs(origin))[0].double().numpy()
    scale = world.features[world.features["ticker"] == "T01"]["volatility_35h"].iloc[350]
    expected = model.calibration.apply(raw) * scale * np.sqrt([[1], [2], [3]])
    issued_at = world.calendar["bar_end"].iloc[350]
    row = world.forecasts[(world.forecasts["ticker"] == "T01") & (world.forecasts["issued_at"] == issued_at)]
    np.testing.assert_allclose(row[["p10", "p50", "p90"]].to_numpy(), expected, atol=1e-7)


def test_a_wild_calibration_still_keeps_the_order(world: World) -> None:
    wide = dataclasses.replace(world.model, calibration=Calibration(0.3, np.array([0.5, 1.0, 2.0])))
    schema.validate(dataclasses.replace(world, model=wide).forecasts, contracts.QUANTILES)


def test_a_ticker_that_the_model_never_saw_is_forecast_without_a_name(world: World) -> None:
    one = world.features[world.features["ticker"] == "T00"]
    newcomers = world.of(pd.concat([one.assign(ticker="NEW"), one.assign(ticker="ZZZ")], ignore_index=True))
    bands = {ticker: group[["p10", "p50", "p90"]].to_numpy() for ticker, group in newcomers.groupby("ticker")}
    np.testing.assert_array_equal(bands["NEW"], bands["ZZZ"])
    assert not np.array_equal(bands["NEW"], world.of(one)[["p10", "p50", "p90"]].to_numpy())


def test_who_cannot_be_forecast_is_named(world: World) -> None:
    ends = world.features["bar_end"]
    few = world.features[(world.features["ticker"] != "T02") | ((ends >= world.begin) & (ends < world.begin + DAY))]
    asked = {"start": world.begin, "end": world.begin + DAY}
    assert sorted(predict(world.model, few, world.calendar, **asked)["ticker"].unique()) == ["T00", "T01"]
    assert not_forecast(world.model, few, world.calendar, **asked) == {
        "T02": "7 bars are held and no window of 8 bars with 3 bars after it is whole enough"
    }
    nobody = world.features[ends < world.begin]
    assert not_forecast(world.model, nobody, world.calendar, **asked).keys() == {"T00", "T01", "T02"}


def test_a_calendar_without_the_future_forecasts_what_it_can(world: World) -> None:
    short = dataclasses.replace(world, calendar=world.calendar.iloc[:401])
    assert short.forecasts["issued_at"].max() == world.calendar["bar_end"].iloc[397]
    assert world.forecasts["issued_at"].max() == world.calendar["bar_end"].iloc[399]


def test_nothing_in_gives_nothing_out(world: World) -> None:
    rows = predict(world.model, contracts.FEATURES.empty(), pd.DataFrame(), start=world.begin, end=world.finish)
    assert schema.validate(rows, contracts.QUANTILES).empty


def test_a_model_does_not_forecast_what_it_was_trained_on(world: World) -> None:
    as_of = world.model.trained_as_of
    with pytest.raises(LeakageError, match="it has seen what came of it"):
        predict(world.model, world.features, world.calendar, start=as_of, end=as_of + DAY)


def test_a_moment_without_a_time_zone_is_refused(world: World) -> None:
    naive = datetime(2024, 1, 1)  # noqa: DTZ001
    with pytest.raises(ContractError, match="start=2024-01-01T00:00:00 has no time zone"):
        predict(world.model, world.features, world.calendar, start=naive, end=naive)
