"""Panels, eligibility and the gather, against windows worked out by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from tft_pipeline.contracts import FEATURES
from tft_pipeline.errors import ContractError
from tft_pipeline.training.gather import Windows, ticker_codes
from tft_pipeline.training.scaling import Scaler
from tft_pipeline.training.windows import Panel, left_out
from tft_pipeline_tests.training.examples import calendar_of, features_of

OBSERVED, KNOWN = ("return_1h",), ("session_progress",)
AS_IT_IS = Scaler(np.zeros(1), np.ones(1), np.zeros(1, dtype=np.bool_))


def ladder(n_held: int = 12, n_bars: int = 14, missing: tuple[int, ...] = ()) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One ticker: return_1h is the bar's number / 10, the index its square / 100, volatility 0.5; some bars are missing."""
    calendar = calendar_of(n_bars)
    features = features_of(calendar.iloc[:n_held], tickers=1)
    number = np.arange(n_held)
    features["return_1h"], features["log_price"] = number / 10, number**2 / 100
    features["volatility_35h"], features["volatility_ewma"] = 0.5, 0.25
    return features.drop(index=list(missing)), calendar


def panel_of(features: pd.DataFrame, calendar: pd.DataFrame) -> Panel:
    return Panel.from_frames(features, calendar, observed=OBSERVED, known=KNOWN)


def windows_of(panel: Panel, encoder_bars: int = 4, horizon_hours: int = 2) -> Windows:
    codes = ticker_codes(panel, panel.tickers)
    return Windows(
        panel,
        AS_IT_IS,
        AS_IT_IS,
        codes,
        encoder_bars=encoder_bars,
        horizon_hours=horizon_hours,
        device=torch.device("cpu"),
    )


def test_a_window_holds_the_bars_up_to_its_origin_and_the_calendar_beyond() -> None:
    features, calendar = ladder()
    encoder, decoder, code = windows_of(panel_of(features, calendar)).inputs(torch.tensor([5]))
    assert encoder.shape == (1, 4, 2)
    assert encoder[0, :, 0].tolist() == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert encoder[0, :, 1].tolist() == pytest.approx([3 / 7, 4 / 7, 5 / 7, 6 / 7])
    assert decoder[0, :, 0].tolist() == pytest.approx([7 / 7, 1 / 7])
    assert code.tolist() == [1]


def test_the_target_is_the_return_in_units_of_a_random_walk() -> None:
    windows = windows_of(panel_of(*ladder()))
    origin = torch.tensor([5])
    # index 5 -> 6, 7: (36 - 25) / 100, (49 - 25) / 100; units 0.5 * √1, 0.5 * √2
    assert windows.log_returns(origin)[0].tolist() == pytest.approx([0.11, 0.24])
    assert windows.targets(origin)[0].tolist() == pytest.approx([0.22, 0.24 / (0.5 * 2**0.5)])
    assert windows.ewma(origin).tolist() == [0.25]


def test_a_missing_bar_repeats_the_one_before_it_within_the_window_only() -> None:
    windows = windows_of(panel_of(*ladder(missing=(2, 4))))
    encoder, _, _ = windows.inputs(torch.tensor([5]))
    assert encoder[0, :, 0].tolist() == pytest.approx([0.0, 0.3, 0.3, 0.5])  # bar 2 would need bar 1, which lies before


def test_the_second_ticker_never_borrows_from_the_first() -> None:
    calendar = calendar_of(14)
    features = features_of(calendar.iloc[:12], tickers=2)
    panel = panel_of(features.drop(index=[12]), calendar)  # T01's first bar is missing
    encoder, _, code = windows_of(panel).inputs(torch.tensor([14 + 3]))
    assert encoder[0, 0, 0] == 0.0
    assert code.tolist() == [2]


def test_origins_need_a_whole_past_and_a_whole_future() -> None:
    panel = panel_of(*ladder())  # 12 held, 14 expected
    assert np.flatnonzero(panel.forecastable(4, 2)[0]).tolist() == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert np.flatnonzero(panel.learnable(4, 2)[0]).tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert not panel.forecastable(4, 24).any()


def test_one_bar_in_ten_may_be_missing_but_not_the_newest() -> None:
    panel = panel_of(*ladder(n_held=30, n_bars=33, missing=(5, 20, 22)))
    allowed = panel.forecastable(10, 1)[0]
    assert not allowed[5] and allowed[14]  # one of ten is missing  # noqa: PT018
    assert allowed[21] and not allowed[23]  # bars 20 and 22 together are two of ten  # noqa: PT018
    learnable = panel.learnable(10, 1)[0]
    assert not learnable[19]  # its target never came


def test_a_price_that_stands_still_teaches_nothing_yet_is_forecast() -> None:
    features, calendar = ladder()
    features["volatility_35h"] = 0.0
    panel = panel_of(features, calendar)
    assert not panel.learnable(4, 2).any()
    assert panel.forecastable(4, 2).any()


def test_a_ticker_too_short_for_a_window_is_reported_by_name() -> None:
    calendar = calendar_of(14)
    features = features_of(calendar.iloc[:12], tickers=2)
    panel = panel_of(features.iloc[:15], calendar)  # T01 has three bars
    assert left_out(panel, panel.learnable(4, 2), 4, 2) == {
        "T01": "3 bars are held and no window of 4 bars with 2 bars after it is whole enough"
    }


def test_the_order_of_rows_does_not_matter() -> None:
    features, calendar = ladder()
    shuffled = panel_of(features.sample(frac=1, random_state=1), calendar)
    np.testing.assert_array_equal(shuffled.observed, panel_of(features, calendar).observed)


def test_no_bars_are_an_empty_panel() -> None:
    panel = panel_of(FEATURES.empty(), pd.DataFrame())
    assert panel.tickers == ()
    assert panel.forecastable(4, 2).size == panel.learnable(4, 2).size == panel.newest_held().size == 0


def test_a_bar_outside_the_calendar_is_refused_by_name() -> None:
    features, calendar = ladder()
    with pytest.raises(
        ContractError, match=r"1 bar\(s\) are not on the trading calendar, first T00 bar_end=2024-01-01 17:00"
    ):
        panel_of(features, calendar.drop(index=2))
    with pytest.raises(ContractError, match="are not on the trading calendar"):
        panel_of(features, calendar.iloc[:11])


def test_a_bar_held_twice_is_refused() -> None:
    features, calendar = ladder()
    with pytest.raises(ContractError, match=r"T00 bar_end=2024-01-01 15:00:00\+00:00 is there twice"):
        panel_of(pd.concat([features, features.iloc[:1]]), calendar)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_place(value: float) -> None:
    features, calendar = ladder()
    features.loc[3, "return_1h"] = value
    with pytest.raises(
        ContractError, match=r"'return_1h' is not finite in 1 row\(s\), first at T00 bar_end=2024-01-01 18:00"
    ):
        panel_of(features, calendar)


def test_a_calendar_that_does_not_keep_its_word_is_refused() -> None:
    features, calendar = ladder()
    with pytest.raises(ContractError, match="does not ascend"):
        panel_of(features, calendar.iloc[::-1])
    with pytest.raises(ContractError, match="'session_progress' is missing"):
        panel_of(features, calendar.drop(columns="session_progress"))
    with pytest.raises(ContractError, match="'session_progress' is not finite"):
        panel_of(features, calendar.assign(session_progress=np.nan))
    with pytest.raises(ContractError, match="no time zone"):
        panel_of(features, calendar.assign(bar_end=calendar["bar_end"].dt.tz_localize(None)))
