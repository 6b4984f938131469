"""What a source says otherwise than is held, worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.market.restatements import LEAST_BARS, compare_actions, compare_bars
from tft_pipeline.schema import concat, validate
from tft_pipeline_tests.features.bars import make_actions, make_bars

HOURS = [f"2024-03-0{day} {hour}:30" for day in (4, 5, 6) for hour in (14, 15, 16)]  # Monday to Wednesday
CLOSES = np.array([100.0, 101.0, 102.0, 103.0, 104.0, 105.0, 106.0, 107.0, 108.0])


def held(**columns) -> pd.DataFrame:
    return make_bars(HOURS, CLOSES, **columns)


def differing(fetched: pd.DataFrame, stored: pd.DataFrame) -> list[tuple[str, str, bool]]:
    found = compare_bars(fetched, stored).differing
    return [
        (ticker, f"{at:%d %H:%M}", bool(new))
        for ticker, at, new in zip(found["ticker"], found["bar_start"], found["is_new"], strict=True)
    ]


def changed(row: int, **values: float) -> pd.DataFrame:
    bars = held()
    for name, value in values.items():
        bars.loc[row, name] = value
    return bars


def scaled(bars: pd.DataFrame, ratio: float, rows: slice = slice(None)) -> pd.DataFrame:
    names = ["open", "high", "low", "close"]
    found = bars.copy()
    found.loc[found.index[rows], names] *= ratio
    found.loc[found.index[rows], "volume"] /= ratio
    return found


def test_the_same_bars_differ_in_nothing() -> None:
    found = compare_bars(held(), held())
    assert found.differing.empty
    assert found.rescaled == ()
    assert_frame_equal(validate(found.rows, BARS), held())


def test_when_a_bar_was_read_is_no_difference() -> None:
    assert differing(held(known_at=pd.Timestamp("2024-03-07", tz="UTC")), held()) == []


@pytest.mark.parametrize(
    ("name", "value"), [("close", 104.01), ("high", 110.0), ("low", 90.0), ("open", 103.5), ("volume", 1001.0)]
)
def test_one_value_of_one_bar_is_seen(name: str, value: float) -> None:
    assert differing(changed(4, **{name: value}), held()) == [("AAPL", "05 15:30", False)]
    assert compare_bars(changed(4, **{name: value}), held()).rows.loc[4, name] == value


def test_another_end_of_a_bar_is_seen() -> None:
    bars = held()
    bars.loc[8, "bar_end"] = pd.Timestamp("2024-03-06 17:00", tz="UTC")
    assert differing(bars, held()) == [("AAPL", "06 16:30", False)]


def test_single_precision_is_noise_and_the_held_value_stays() -> None:
    noisy = held()
    noisy["close"] = (CLOSES / 3).astype(np.float32).astype(np.float64) * 3  # Yahoo's restated price, taken back
    assert (noisy["close"] != held()["close"]).any()
    found = compare_bars(noisy, held())
    assert found.differing.empty
    assert_frame_equal(found.rows, held())


def test_a_cent_of_a_dear_share_is_no_noise() -> None:
    dear = make_bars(HOURS, 4000.0)
    cent = dear.assign(close=4000.01, high=4000.01)
    assert len(compare_bars(cent.iloc[:1], dear.iloc[:1]).differing) == 1


def test_a_bar_that_was_not_there_is_new_and_what_lies_before_a_tickers_first_was_never_asked_for() -> None:
    assert differing(held(), held().drop(index=[4])) == [("AAPL", "05 15:30", True)]
    assert differing(held(), held().iloc[3:]) == []
    assert differing(held(), held().iloc[:0]) == []


def test_a_bar_that_the_source_no_longer_gives_is_left_alone() -> None:
    assert differing(held().drop(index=[4]), held()) == []


def test_tickers_are_told_apart_and_rows_keep_their_order() -> None:
    both = concat([held(), held(ticker="MSFT")], BARS)
    later = both.copy()
    later.loc[9, "close"] = 100.4
    later = later.sample(frac=1.0, random_state=2)
    found = compare_bars(later, both)
    assert found.differing[["ticker", "bar_start"]].values.tolist() == [["MSFT", pd.Timestamp(HOURS[0], tz="UTC")]]
    assert_frame_equal(found.rows, later.reset_index(drop=True))


def test_bars_of_another_source_are_not_compared() -> None:
    other = scaled(held(source="massive"), 1.001)
    found = compare_bars(other, held())
    assert found.differing.empty
    assert_frame_equal(found.rows, other)


# A split that nobody told of ------------------------------------------------------------------------------------------


def test_a_history_in_another_unit_is_no_restatement_and_its_days_are_left_alone() -> None:
    # Held as traded; the source has divided Monday's and Tuesday's prices by 4, and Wednesday trades under the split.
    fetched = scaled(held(), 0.25, slice(0, 6))
    found = compare_bars(fetched, held())
    assert found.differing.empty
    (one,) = found.rescaled
    assert (one.ticker, one.bars, one.last) == ("AAPL", 6, pd.Timestamp(HOURS[5], tz="UTC"))
    assert one.ratio == pytest.approx(0.25)
    assert found.rows["bar_start"].dt.day.tolist() == [6, 6, 6]
    assert one.sentence(ACTIONS.empty()) == (
        "6 bars up to 2024-03-05 16:30Z are 0.25 times the prices held, and no split that is known explains it: left as they were traded, "
        "until the source tells why"
    )


def test_a_split_that_is_known_is_named_as_what_the_source_did_not_take_back() -> None:
    (one,) = compare_bars(scaled(held(), 0.25, slice(0, 6)), held()).rescaled
    split = make_actions(("AAPL", "2024-03-06 14:30", "split", 4.0), ("MSFT", "2024-03-06 14:30", "split", 9.0))
    assert "the split of 2024-03-06 explains it" in one.sentence(split)
    assert "no split that is known" in one.sentence(make_actions(("AAPL", "2024-03-06 14:30", "split", 2.0)))
    assert "no split that is known" in one.sentence(make_actions(("AAPL", "2024-03-05 14:30", "split", 4.0)))


def test_new_bars_of_a_day_that_was_rescaled_are_left_out_too_and_other_tickers_go_on() -> None:
    stored = concat([held().iloc[:8], held(ticker="MSFT").iloc[:8]], BARS)
    fetched = concat(
        [scaled(held(), 0.5), changed(8, close=108.0).assign(ticker="MSFT").astype({"ticker": "str"})], BARS
    )
    found = compare_bars(fetched, stored)
    assert set(found.rows["ticker"]) == {"MSFT"}
    assert len(found.rows) == 9
    assert found.differing["ticker"].tolist() == ["MSFT"]


def test_a_reverse_split_and_a_stock_dividend_of_three_percent_are_ratios() -> None:
    for ratio in (10.0, 1 / 1.03):
        (one,) = compare_bars(scaled(held(), ratio), held()).rescaled
        assert one.ratio == pytest.approx(ratio)


def test_too_few_bars_or_a_ratio_that_is_not_one_are_restatements() -> None:
    few = LEAST_BARS - 1
    assert len(compare_bars(scaled(held(), 0.5).iloc[:few], held().iloc[:few]).differing) == few
    uneven = scaled(held(), 0.5)
    uneven.loc[3, "close"] *= 1.001
    assert len(compare_bars(uneven, held()).differing) == 9
    slight = compare_bars(scaled(held(), 1.005), held())
    assert slight.rescaled == ()
    assert len(slight.differing) == 9


def test_a_ratio_in_the_middle_of_sound_days_is_a_restatement() -> None:
    assert len(compare_bars(scaled(held(), 0.5, slice(3, 6)), held()).differing) == 3


def test_a_volume_that_moved_with_the_prices_or_not_does_not_matter() -> None:
    whole = scaled(held(), 0.5).assign(volume=1000.0)
    assert compare_bars(whole, held()).rescaled[0].bars == 9


# Actions --------------------------------------------------------------------------------------------------------------

SPLIT = ("AAPL", "2024-03-05 14:30", "split", 4.0)


def test_an_action_that_is_new_or_of_another_value_differs() -> None:
    stored = make_actions(SPLIT, ("AAPL", "2024-03-06 14:30", "dividend", 0.24))
    fetched = make_actions(
        SPLIT, ("AAPL", "2024-03-06 14:30", "dividend", 0.25), ("MSFT", "2024-03-04 14:30", "split", 2.0)
    )
    found = compare_actions(fetched, stored).differing
    assert found[["ticker", "is_new"]].values.tolist() == [["AAPL", False], ["MSFT", True]]
    assert compare_actions(stored, stored).differing.empty
    assert compare_actions(ACTIONS.empty(), stored).differing.empty
    assert compare_actions(make_actions(SPLIT), ACTIONS.empty()).differing["is_new"].tolist() == [True]


def test_the_noise_of_a_dividend_is_taken_back() -> None:
    noisy = make_actions(("AAPL", "2024-03-05 14:30", "dividend", 0.24 * (1 + 1e-8)))
    stored = make_actions(("AAPL", "2024-03-05 14:30", "dividend", 0.24))
    found = compare_actions(noisy, stored)
    assert found.differing.empty
    assert_frame_equal(found.rows, stored)
