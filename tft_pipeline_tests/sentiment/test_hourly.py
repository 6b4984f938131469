import pandas as pd
import pytest

from tft_pipeline.contracts import HOURLY_SENTIMENT, MENTIONS
from tft_pipeline.schema import validate
from tft_pipeline.sentiment.hourly import hourly
from tft_pipeline_tests.sentiment.posts import mentions_of

START, END = pd.Timestamp("2024-03-05", tz="UTC"), pd.Timestamp("2024-03-06", tz="UTC")


def test_counts_and_confidence_by_hand():
    frame = validate(
        hourly(
            mentions_of(
                ("AAPL", "2024-03-05 15:00:00", "bullish", 0.9),
                ("AAPL", "2024-03-05 15:20:00", "bearish", 0.5),
                ("AAPL", "2024-03-05 15:59:59.999999", "bullish", 0.7),
                ("AAPL", "2024-03-05 16:00:00", "neutral", 0.6),
                ("BAC", "2024-03-05 15:30:00", "bearish", 0.8),
            ),
            START,
            END,
        ),
        HOURLY_SENTIMENT,
    )
    columns = ["ticker", "hour_start", "bullish_count", "bearish_count", "neutral_count"]
    three, four = pd.Timestamp("2024-03-05 15:00", tz="UTC"), pd.Timestamp("2024-03-05 16:00", tz="UTC")
    assert frame[columns].to_numpy().tolist() == [
        ["AAPL", three, 2, 1, 0], ["AAPL", four, 0, 0, 1], ["BAC", three, 0, 1, 0],
    ]  # fmt: skip
    assert frame["confidence"].tolist() == pytest.approx([0.7, 0.6, 0.8])
    assert frame["hour_end"].tolist() == [four, four + pd.Timedelta(hours=1), four]


def test_momentum_compares_with_the_preceding_24_hours_that_had_mentions():
    frame = hourly(
        mentions_of(
            ("AAPL", "2024-03-04 14:59", "bearish", 0.9),  # 25 hours before 15:00: too old for it
            ("AAPL", "2024-03-04 15:00", "bullish", 0.9),  # 24 hours before: score 1
            ("AAPL", "2024-03-05 10:00", "bullish", 0.9),
            ("AAPL", "2024-03-05 10:30", "neutral", 0.9),  # score 1/2
            ("AAPL", "2024-03-05 15:10", "bearish", 0.9),  # score -1
            ("BAC", "2024-03-05 15:10", "bullish", 0.9),  # nothing before it
        ),
        START,
        END,
    )
    momentum = {(row.ticker, row.hour_start.hour): row.momentum for row in frame.itertuples()}
    assert momentum == pytest.approx(
        {
            ("AAPL", 10): 0.5 - (-1 + 1) / 2,
            ("AAPL", 15): -1 - (1 + 0.5) / 2,
            ("BAC", 15): 0.0,
        }
    )


def test_a_day_is_the_same_alone_and_within_a_longer_stretch():
    rows = [("AAPL", f"2024-03-0{day} {hour:02d}:30", ("bullish", "bearish", "neutral")[(day * hour) % 3], 0.5 + hour / 50)
            for day in (3, 4, 5) for hour in range(0, 24, 5)]  # fmt: skip
    mentions = mentions_of(*rows)
    long = hourly(mentions, START - pd.Timedelta(days=1), END)
    alone = hourly(mentions[mentions["known_at"] >= START - pd.Timedelta(hours=24)], START, END)
    pd.testing.assert_frame_equal(alone, long[long["hour_start"] >= START].reset_index(drop=True))


def test_is_unchanged_by_anything_known_later():
    early = [("AAPL", f"2024-03-05 {hour:02d}:15", "bullish", 0.6) for hour in range(10)]
    late = [("AAPL", f"2024-03-05 {hour:02d}:15", "bearish", 1.0) for hour in range(10, 20)]
    frame = hourly(mentions_of(*early, *late), START, END)
    pd.testing.assert_frame_equal(frame.head(10), hourly(mentions_of(*early), START, END))


def test_the_order_of_mentions_does_not_matter():
    rows = [("AAPL", "2024-03-05 15:30", "bullish", confidence) for confidence in (0.1, 0.7, 0.3, 1 / 3)]
    mentions = mentions_of(*rows)
    pd.testing.assert_frame_equal(
        hourly(mentions, START, END), hourly(mentions.iloc[::-1], START, END), check_exact=True
    )


def test_a_post_is_dated_by_when_it_was_known_not_by_when_it_was_written():
    mentions = mentions_of(("AAPL", "2024-03-05 00:00:30", "bullish", 0.9))  # written on the day before
    assert mentions["created_at"].iloc[0] < START
    assert hourly(mentions, START, END)["hour_start"].tolist() == [START]
    assert hourly(mentions, START - pd.Timedelta(days=1), START).empty


def test_without_mentions_there_are_no_rows():
    assert validate(hourly(MENTIONS.empty(), START, END), HOURLY_SENTIMENT).empty
    warmup_only = mentions_of(("AAPL", "2024-03-04 15:30", "bullish", 0.9))
    assert validate(hourly(warmup_only, START, END), HOURLY_SENTIMENT).empty
