"""Shorter bars to longer ones, by a rule worked out by hand."""

import math

import numpy as np
import pandas as pd
from pandas.testing import assert_frame_equal

from tft_pipeline.sources._resampling import joined

COLUMNS = ["ticker", "bar_start", "open", "high", "low", "close", "volume"]


def bars(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def test_first_highest_lowest_last_and_the_sum() -> None:
    shorter = bars(
        ("AAPL", 0, 10.0, 12.0, 9.0, 11.0, 5.0), ("AAPL", 1, 11.0, 15.0, 10.0, 14.0, 7.0), ("AAPL", 2, 14.0, 14.0, 8.0, 9.0, 1.0),
        ("MSFT", 0, 50.0, 50.0, 50.0, 50.0, 0.0),
    )  # fmt: skip
    longer = joined(shorter, shorter["bar_start"] // 2 * 2)
    assert longer.columns.tolist() == COLUMNS
    assert longer.values.tolist() == [
        ["AAPL", 0, 10.0, 15.0, 9.0, 14.0, 12.0],
        ["AAPL", 2, 14.0, 14.0, 8.0, 9.0, 1.0],
        ["MSFT", 0, 50.0, 50.0, 50.0, 50.0, 0.0],
    ]


def test_missing_values_are_made_up_for_by_the_others_only() -> None:
    shorter = bars(
        ("AAPL", 0, math.nan, math.nan, 9.0, 11.0, math.nan), ("AAPL", 1, 11.0, 15.0, math.nan, math.nan, math.nan)
    )
    (row,) = joined(shorter, shorter["bar_start"] * 0).values.tolist()
    assert row[:6] == ["AAPL", 0, 11.0, 15.0, 9.0, 11.0]
    assert math.isnan(row[6])  # and not 0: no volume is known


def test_a_longer_bar_ends_with_its_ticker() -> None:
    shorter = bars(("AAPL", 0, 1.0, 1.0, 1.0, 1.0, 1.0), ("MSFT", 0, 2.0, 2.0, 2.0, 2.0, 1.0))
    assert joined(shorter, shorter["bar_start"])["close"].tolist() == [1.0, 2.0]


def test_no_bars_are_no_longer_bars() -> None:
    none = bars(("AAPL", 0, 1.0, 1.0, 1.0, 1.0, 1.0))[:0]
    assert (len(joined(none, none["bar_start"])), joined(none, none["bar_start"]).columns.tolist()) == (0, COLUMNS)


def test_nothing_after_a_longer_bar_changes_it() -> None:
    shorter = bars(*(("AAPL", n, 10.0 + n, 11.0 + n, 9.0 + n, 10.5 + n, 1.0) for n in range(12)))
    crashed = shorter.copy()
    crashed.loc[8:, ["open", "high", "low", "close"]] *= 0.1
    before, after = (joined(frame, frame["bar_start"] // 4) for frame in (shorter, crashed))
    pd.testing.assert_frame_equal(before[:2], after[:2])
    assert not before[2:].equals(after[2:])


def test_it_agrees_with_pandas_on_any_gaps() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        size = int(rng.integers(1, 60))
        numbers = np.where(rng.random((size, 5)) < 0.4, np.nan, rng.integers(1, 99, (size, 5)))
        shorter = pd.DataFrame(numbers, columns=COLUMNS[2:])
        shorter.insert(0, "ticker", np.sort(rng.choice(["AAPL", "MSFT"], size)))
        into = pd.Series(pd.Timestamp("2024-03-05", tz="UTC") + pd.to_timedelta(np.sort(rng.integers(0, 9, size)), "h"))
        into = into.groupby(shorter["ticker"]).transform(lambda hours: hours.sort_values().to_numpy())
        longer = shorter.groupby(["ticker", into.rename("bar_start")]).agg(
            {"open": "first", "high": "max", "low": "min", "close": "last", "volume": lambda v: v.sum(min_count=1)}
        )
        assert_frame_equal(joined(shorter, into), longer.reset_index())
