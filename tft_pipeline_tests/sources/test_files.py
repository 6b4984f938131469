"""Folders of Parquet files: what is good comes through unchanged, what is bad is named by file, row and remedy."""

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tft_pipeline import contracts, schema
from tft_pipeline.errors import SourceError
from tft_pipeline.sources.files import FileBars, FilePosts
from tft_pipeline.sources.protocols import Span

EVER = Span(datetime(1990, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
PRICES = ("open", "high", "low", "close")
NINE = pd.Timestamp("2024-01-02 14:00", tz=UTC)


def bars(**changed) -> pd.DataFrame:
    """Three hours of AAPL and three of SPY; `changed` replaces columns."""
    start = pd.DatetimeIndex([NINE + pd.Timedelta(hours=i) for i in range(3)] * 2)
    frame = pd.DataFrame(
        {
            "ticker": ["AAPL"] * 3 + ["SPY"] * 3,
            "bar_start": start,
            "bar_end": start + pd.Timedelta(hours=1),
            "open": [100.0, 101, 102, 400, 401, 402],
            "high": [102.0, 103, 104, 402, 403, 404],
            "low": [99.0, 100, 101, 399, 400, 401],
            "close": [101.0, 102, 103, 401, 402, 403],
            "volume": [1000, 2000, 3000, 4000, 5000, 6000],
        }
    )
    return frame.assign(**changed)


def actions(**changed) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "ticker": ["AAPL", "SPY"],
            "effective_at": pd.DatetimeIndex([NINE, NINE + pd.Timedelta(hours=1)]),
            "kind": ["split", "dividend"],
            "value": [7.0, 1.25],
        }
    )
    return frame.assign(**changed)


def posts(**changed) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "id": ["b", "a", "c"],
            "created_at": pd.DatetimeIndex([NINE, NINE, NINE + pd.Timedelta(hours=1)]),
            "channel": ["wsb", "wsb", "stocks"],
            "text": ["$AAPL 🚀", "puts\x00 on $SPY", "hello"],
            "score": [1, -2, 3],
        }
    )
    return frame.assign(**changed)


def minutes(first: str, n: int, ticker: str = "AAPL", price: float = 100.0, step_min: int = 1) -> pd.DataFrame:
    """n bars of step_min minutes; open i is price + i, high + 2, low - 3, close + 1, volume i + 1."""
    start = pd.date_range(first, periods=n, freq=f"{step_min}min", tz="UTC")
    open_usd = price + np.arange(n)
    return pd.DataFrame(
        {
            "ticker": ticker,
            "bar_start": start,
            "bar_end": start + pd.Timedelta(minutes=step_min),
            "open": open_usd,
            "high": open_usd + 2,
            "low": open_usd - 3,
            "close": open_usd + 1,
            "volume": np.arange(n) + 1.0,
        }
    )


def folder(path: Path, **files: pd.DataFrame | pa.Table) -> Path:
    """path with each of `files` as <name>.parquet."""
    for name, content in files.items():
        if isinstance(content, pa.Table):
            pq.write_table(content, path / f"{name}.parquet")
        else:
            content.to_parquet(path / f"{name}.parquet", index=False)
    return path


def refused(path: Path, source: type = FileBars) -> str:
    """The message of the SourceError, with the folder written as F."""
    with pytest.raises(SourceError) as caught:
        source(path)
    return str(caught.value).replace(str(path), "F")


# What is good -------------------------------------------------------------------------------------------------------


def test_bars_and_actions_come_through_as_they_stand(tmp_path):
    source = FileBars(folder(tmp_path, bars=bars(), actions=actions()))
    fetched = source.bars(["SPY", "AAPL"], EVER)
    frame = schema.validate(fetched.frame, contracts.BARS)
    assert fetched.problems == {}
    assert frame["close"].tolist() == [101, 102, 103, 401, 402, 403]
    assert frame["volume"].tolist() == [1000, 2000, 3000, 4000, 5000, 6000]
    assert (frame["known_at"] == frame["bar_end"]).all()
    assert set(frame["source"]) == {"files"}
    acted = schema.validate(source.actions(["AAPL", "SPY"], EVER).frame, contracts.ACTIONS)
    assert acted[["ticker", "kind", "value"]].to_numpy().tolist() == [["AAPL", "split", 7.0], ["SPY", "dividend", 1.25]]
    assert (acted["known_at"] == acted["effective_at"]).all()
    assert source.universe() == ("AAPL", "SPY")
    assert source.span() == Span(datetime(2024, 1, 2, 14, tzinfo=UTC), datetime(2024, 1, 2, 17, tzinfo=UTC))
    assert source.note is None
    assert (source.name, source.simulated, source.delay) == ("files", False, timedelta(0))


def test_a_span_holds_its_start_but_not_its_end(tmp_path):
    source = FileBars(folder(tmp_path, bars=bars(), actions=actions()))
    span = Span(datetime(2024, 1, 2, 14, tzinfo=UTC), datetime(2024, 1, 2, 15, tzinfo=UTC))
    assert source.bars(["AAPL"], span).frame["close"].tolist() == [101]
    assert source.actions(["AAPL", "SPY"], span).frame["ticker"].tolist() == ["AAPL"]
    nothing = Span(EVER.start, EVER.start)
    schema.validate(source.bars(["AAPL"], nothing).frame, contracts.BARS)
    schema.validate(FileBars(folder(tmp_path)).actions(["AAPL"], nothing).frame, contracts.ACTIONS)


def test_rows_are_sorted_and_files_are_read_one_below_the_other(tmp_path):
    mixed = bars().sample(frac=1, random_state=1)
    source = FileBars(folder(tmp_path, bars_2024a=mixed.head(2), bars_2024b=mixed.tail(4)))
    frame = source.bars(source.universe(), EVER).frame
    assert frame["close"].tolist() == [101, 102, 103, 401, 402, 403]
    schema.validate(source.actions(["SPY"], EVER).frame, contracts.ACTIONS)  # no actions file: none


@pytest.mark.parametrize("dtype", ["datetime64[ns, UTC]", "datetime64[s, UTC]", "datetime64[ms, America/New_York]"])
def test_any_resolution_and_zone_becomes_utc_microseconds(tmp_path, dtype):
    given = bars().astype({"bar_start": dtype, "bar_end": dtype})
    source = FileBars(folder(tmp_path, bars=given))
    frame = schema.validate(source.bars(["AAPL"], EVER).frame, contracts.BARS)
    assert frame["bar_start"].iloc[0] == NINE


def test_tickers_may_be_categories_and_numbers_whole_or_decimal(tmp_path):
    given = bars().astype({"ticker": "category", "open": "int32", "volume": "float32"})
    source = FileBars(folder(tmp_path, bars=given))
    schema.validate(source.bars(["AAPL", "SPY"], EVER).frame, contracts.BARS)


def test_doubtful_prices_pass_for_the_quality_rules_to_judge(tmp_path):
    doubtful = bars(high=[1.0, -5, np.nan, np.inf, 403, 404], volume=[1, None, 3, 4, 5, 6])
    frame = FileBars(folder(tmp_path, bars=doubtful)).bars(["AAPL", "SPY"], EVER).frame
    np.testing.assert_equal(frame["high"].to_numpy(), [1.0, -5, np.nan, np.inf, 403, 404])
    assert frame["volume"].isna().tolist() == [False, True, False, False, False, False]


def test_a_last_bar_shorter_than_an_hour_leaves_hourly_bars_alone(tmp_path):
    given = bars()
    given.loc[5, "bar_end"] = given.loc[5, "bar_start"] + pd.Timedelta(minutes=30)
    source = FileBars(folder(tmp_path, bars=given))
    assert source.note is None
    assert source.bars(["SPY"], EVER).frame["bar_end"].iloc[-1] == pd.Timestamp("2024-01-02 16:30", tz=UTC)


def test_posts_come_through_clean_and_sorted(tmp_path):
    source = FilePosts(folder(tmp_path, posts=posts()))
    frame = source.posts(EVER).frame
    schema.validate(frame.assign(text_hash=""), contracts.POSTS)
    assert frame["post_id"].tolist() == ["c", "a", "b"]
    assert frame["text"].tolist() == ["hello", "puts on $SPY", "$AAPL 🚀"]
    assert frame["score"].tolist() == [3, -2, 1]
    assert (frame["known_at"] == frame["created_at"]).all()
    end = datetime(2024, 1, 2, 15, tzinfo=UTC)
    assert source.span() == Span(datetime(2024, 1, 2, 14, tzinfo=UTC), end + timedelta(microseconds=1))
    assert source.posts(Span(EVER.start, end)).frame["post_id"].tolist() == ["a", "b"]
    schema.validate(source.posts(Span(end, EVER.start)).frame.assign(text_hash=""), contracts.POSTS)


def test_posts_without_words_or_votes_are_empty_and_zero(tmp_path):
    frame = (
        FilePosts(folder(tmp_path, posts=posts(text=[None, "x", "y"], score=[np.nan, 2.0, 3.0], id=[12, 10, 11])))
        .posts(EVER)
        .frame
    )
    assert frame.set_index("post_id")["text"].to_dict() == {"12": "", "10": "x", "11": "y"}
    assert frame.set_index("post_id")["score"].to_dict() == {"12": 0, "10": 2, "11": 3}
    assert FilePosts(folder(tmp_path, posts=posts().head(0))).span() is None


def test_lone_surrogates_and_broken_bytes_are_replaced(tmp_path):
    raw = [b"half \xed\xa0\xbd", b"two halves \xed\xa0\xbd\xed\xba\x80", b"latin \xe9t\xe9"]
    offsets = np.cumsum([0, *map(len, raw)]).astype(np.int32)
    text = pa.Array.from_buffers(pa.string(), 3, [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(raw))])
    table = pa.Table.from_pandas(posts(), preserve_index=False)
    table = table.set_column(3, "text", text)
    frame = FilePosts(folder(tmp_path, posts=table)).posts(EVER).frame
    assert frame.set_index("post_id")["text"].to_dict() == {"b": "half �", "a": "two halves 🚀", "c": "latin �t�"}


# Bars by the minute -------------------------------------------------------------------------------------------------


def test_minutes_are_joined_to_clock_hours(tmp_path):
    source = FileBars(folder(tmp_path, bars=minutes("2024-01-02 14:30", 90)))
    frame = schema.validate(source.bars(["AAPL"], EVER).frame, contracts.BARS)
    # Minutes 0…29 lie in the hour of 14:00, minutes 30…89 in the hour of 15:00.
    assert frame["bar_start"].dt.strftime("%H:%M").tolist() == ["14:00", "15:00"]
    assert frame["bar_end"].dt.strftime("%H:%M").tolist() == ["15:00", "16:00"]
    assert frame["open"].tolist() == [100, 130]
    assert frame["high"].tolist() == [131, 191]
    assert frame["low"].tolist() == [97, 127]
    assert frame["close"].tolist() == [130, 190]
    assert frame["volume"].tolist() == [sum(range(1, 31)), sum(range(31, 91))]
    assert (frame["known_at"] == frame["bar_end"]).all()
    assert source.note == "90 bars of 1 min were joined to 2 of a clock hour."


def test_an_hour_that_is_not_over_is_left_out_and_said(tmp_path):
    source = FileBars(folder(tmp_path, bars=minutes("2024-01-02 14:30", 89)))
    assert source.bars(["AAPL"], EVER).frame["close"].tolist() == [130]
    assert (
        source.note
        == "89 bars of 1 min were joined to 1 of a clock hour; 1 of the last hour are left out, as it is not over in the files."
    )
    assert source.span() == Span(datetime(2024, 1, 2, 14, tzinfo=UTC), datetime(2024, 1, 2, 15, tzinfo=UTC))
    short = FileBars(folder(tmp_path, bars=minutes("2024-01-02 14:30", 10)))
    assert short.span() is None
    assert short.bars(["AAPL"], EVER).frame.empty


def test_a_thin_ticker_need_not_trade_in_the_last_minute(tmp_path):
    thin = minutes("2024-01-02 14:30", 20, ticker="THIN")
    source = FileBars(folder(tmp_path, bars=pd.concat([minutes("2024-01-02 14:30", 30), thin])))
    assert source.bars(["THIN"], EVER).frame["close"].tolist() == [120]


def test_minutes_yet_to_come_leave_finished_hours_alone(tmp_path):
    whole = minutes("2024-01-02 14:30", 90)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    half = FileBars(folder(tmp_path / "a", bars=whole.head(45))).bars(["AAPL"], EVER).frame
    pd.testing.assert_frame_equal(half, FileBars(folder(tmp_path / "b", bars=whole)).bars(["AAPL"], EVER).frame.head(1))


# What is bad --------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_or_not_a_folder_is_named(tmp_path):
    assert refused(tmp_path / "none") == "F: no such folder. Give files: a folder that holds bars*.parquet."
    file = folder(tmp_path, bars=bars()) / "bars.parquet"
    assert refused(file) == "F: not a folder. Give files: the folder that holds bars*.parquet, not a file."


def test_an_empty_folder_says_what_it_should_hold(tmp_path):
    assert refused(tmp_path) == (
        "F: holds no bars*.parquet. Put one there with the columns "
        "['ticker', 'bar_start', 'bar_end', 'open', 'high', 'low', 'close', 'volume'], or name another folder."
    )
    assert refused(tmp_path, FilePosts) == (
        "F: holds no posts*.parquet. Put one there with the columns ['id', 'created_at', 'channel', 'text', 'score'], or set posts=none."
    )
    folder(tmp_path, bars=bars().head(0))
    assert refused(tmp_path) == "F/bars.parquet: holds no rows. Put bars there, or name another folder."


def test_a_truncated_file_is_named(tmp_path):
    path = folder(tmp_path, bars=bars()) / "bars.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    message = refused(tmp_path)
    assert message.startswith("F/bars.parquet: cannot be read as Parquet (")
    assert message.endswith("Write it again, or take it out of the folder.")
    path.write_bytes(b"")
    assert "cannot be read as Parquet" in refused(tmp_path)


def test_flipped_bytes_raise_nothing_but_an_error_that_names_the_file(tmp_path):
    path = folder(tmp_path, bars=bars()) / "bars.parquet"
    whole = path.read_bytes()
    for at in range(4, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            FileBars(tmp_path)
        except SourceError as error:
            assert str(path) in str(error)  # noqa: PT017


def test_columns_that_are_missing_or_unknown_are_named_with_what_was_found(tmp_path):
    folder(tmp_path, bars=bars().rename(columns={"close": "Close"}))
    assert refused(tmp_path) == (
        "F/bars.parquet: column 'close' is missing; found "
        "['ticker', 'bar_start', 'bar_end', 'open', 'high', 'low', 'Close', 'volume'], bars*.parquet holds "
        "['ticker', 'bar_start', 'bar_end', 'open', 'high', 'low', 'close', 'volume']. Add it."
    )
    folder(tmp_path, bars=bars(vwap=1.0))
    assert "column 'vwap' is unknown; found" in refused(tmp_path)
    assert refused(tmp_path).endswith("Rename or drop it (pandas: to_parquet(index=False)).")
    twice = pa.Table.from_pandas(bars(), preserve_index=False)
    folder(tmp_path, bars=twice.append_column("close", twice["close"]))
    assert refused(tmp_path) == "F/bars.parquet: column 'close' stands there twice. Drop one of them."


def test_naive_times_are_refused_with_their_first_row(tmp_path):
    folder(tmp_path, bars=bars(bar_start=lambda f: f["bar_start"].dt.tz_localize(None)))
    assert refused(tmp_path) == (
        "F/bars.parquet: column 'bar_start' has no time zone (timestamp[us]); row 0 (AAPL 2024-01-02 14:00:00). "
        "Nobody can tell which hour it means: write UTC (pandas: .dt.tz_localize(zone).dt.tz_convert('UTC'))."
    )


def test_times_that_are_no_timestamps_are_refused(tmp_path):
    folder(tmp_path, bars=bars(bar_end=lambda f: f["bar_end"].astype("int64")))
    assert refused(tmp_path) == (
        "F/bars.parquet: column 'bar_end' is int64, not a timestamp; row 0 (AAPL 2024-01-02 14:00:00.000000+00:00). "
        "Write it as a timestamp with time zone UTC."
    )
    folder(tmp_path, bars=bars(bar_start="2024-01-02").head(0))
    assert "column 'bar_start' is large_string, not a timestamp; no rows" in refused(tmp_path)


def test_wrong_dtypes_are_refused(tmp_path):
    folder(tmp_path, bars=bars(close="dear"))
    assert "column 'close' is large_string, not a number; row 0 (AAPL " in refused(tmp_path)
    folder(tmp_path, bars=bars(ticker=1.5))
    assert "column 'ticker' is double, not text" in refused(tmp_path)
    folder(tmp_path, posts=posts(score=[1, 2.5, 3]))
    assert refused(tmp_path, FilePosts) == "F/posts.parquet: row 1: score 2.5 is not a whole number. Round it there."
    late = pa.Table.from_pandas(posts(), preserve_index=False).set_column(
        1, "created_at", pa.array([2**60] * 3, pa.int64()).cast(pa.timestamp("ms", "UTC"))
    )
    folder(tmp_path, posts=late)
    assert "column 'created_at' holds a value that cannot be kept" in refused(tmp_path, FilePosts)


def test_a_bar_that_ends_before_it_begins_is_named(tmp_path):
    given = bars()
    given.loc[4, "bar_end"] = given.loc[4, "bar_start"]
    folder(tmp_path, bars_a=bars().head(2), bars_b=given.tail(4))
    assert refused(tmp_path) == (
        "F/bars_b.parquet: row 2 (SPY 2024-01-02 15:00:00.000000+00:00): bar_end 2024-01-02 15:00:00.000000+00:00 is not "
        "after bar_start. Write the first moment after the bar."
    )
    given["bar_end"] = given["bar_start"] - pd.Timedelta(hours=1)
    folder(tmp_path, bars_b=given.tail(4))
    assert "(3 more such rows). Write the first moment" in refused(tmp_path)


def test_bars_longer_than_an_hour_or_across_it_are_refused(tmp_path):
    folder(tmp_path, bars=bars(bar_end=lambda f: f["bar_start"] + pd.Timedelta(days=1)))
    assert (
        "row 0 (AAPL 2024-01-02 14:00:00.000000+00:00): the bar lasts 1 day, 0:00:00, longer than an hour (5 more such rows)"
        in refused(tmp_path)
    )
    folder(tmp_path, bars=minutes("2024-01-02 14:45", 4, step_min=10))
    assert (
        "row 1 (AAPL 2024-01-02 14:55:00.000000+00:00): the bar reaches over the hour to 2024-01-02 15:05:00"
        in refused(tmp_path)
    )
    folder(tmp_path, bars=pd.concat([minutes("2024-01-02 09:30", 30), bars()]))
    assert "row 30 (AAPL 2024-01-02 14:00:00.000000+00:00): an hourly bar among shorter ones (5 more" in refused(
        tmp_path
    )


@pytest.mark.parametrize("ticker", ["aapl", "../../v1/evil", "", "AAPL\n", "AA\x00PL", "TOOLONGATICKER"])
def test_tickers_that_cannot_be_are_refused(tmp_path, ticker):
    folder(tmp_path, bars=bars(ticker=["AAPL"] * 3 + [ticker] * 3))
    message = refused(tmp_path)
    assert message.startswith("F/bars.parquet: row 3 (")
    assert f"{ticker!r} is no ticker (2 more such rows). Tickers are upper case and match" in message


def test_nulls_in_keys_are_refused(tmp_path):
    folder(tmp_path, bars=bars(ticker=["AAPL", None, "AAPL", "SPY", None, "SPY"]))
    assert refused(tmp_path) == (
        "F/bars.parquet: row 1 (None 2024-01-02 15:00:00.000000+00:00): ticker is null (1 more such rows). "
        "Fill it in or leave the row out."
    )
    folder(tmp_path, bars=bars(bar_end=lambda f: f["bar_end"].where(f.index != 5)))
    assert "row 5 (SPY 2024-01-02 16:00:00.000000+00:00): bar_end is null. Fill" in refused(tmp_path)
    folder(tmp_path, posts=posts(id=["a", None, "b"]))
    assert "F/posts.parquet: row 1 (None 2024-01-02 14:00:00.000000+00:00): id is null" in refused(tmp_path, FilePosts)
    folder(tmp_path, posts=posts(channel=["a", "", "b"]))
    assert "F/posts.parquet: row 1 (a 2024-01-02 14:00:00.000000+00:00): channel is empty" in refused(
        tmp_path, FilePosts
    )


def test_strange_bytes_in_a_ticker_do_not_hide_the_message(tmp_path):
    ticker = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")]
    )
    table = pa.Table.from_pandas(
        bars(bar_start=lambda f: f["bar_start"].dt.tz_localize(None)).head(1), preserve_index=False
    )
    folder(tmp_path, bars=table.set_column(0, "ticker", ticker))
    assert "row 0 (b'\\xff\\xfe' 2024-01-02 14:00:00)" in refused(tmp_path)


def test_repeated_bars_name_both_rows(tmp_path):
    folder(tmp_path, bars_a=bars(), bars_b=bars().tail(2))
    assert refused(tmp_path) == (
        "F/bars_b.parquet: row 0 (SPY 2024-01-02 15:00:00.000000+00:00): repeats ticker and bar_start of F/bars_a.parquet: "
        "row 4 (SPY 2024-01-02 15:00:00.000000+00:00) (1 more such row). Keep one row for each bar."
    )


def test_repeated_posts_are_refused_within_a_channel_only(tmp_path):
    folder(tmp_path, posts=posts(id=["a", "b", "a"]))
    assert len(FilePosts(tmp_path).posts(EVER).frame) == 3
    folder(tmp_path, posts=posts(id=["a", "a", "b"]))
    assert refused(tmp_path, FilePosts) == (
        "F/posts.parquet: row 1 (a 2024-01-02 14:00:00.000000+00:00): repeats channel and id of F/posts.parquet: "
        "row 0 (a 2024-01-02 14:00:00.000000+00:00). Keep one row for each post of a channel."
    )


def test_bad_actions_are_refused(tmp_path):
    folder(tmp_path, bars=bars(), actions=actions(kind=["split", "merger"]))
    assert refused(tmp_path) == (
        "F/actions.parquet: row 1 (SPY 2024-01-02 15:00:00.000000+00:00): kind 'merger' is unknown. "
        "Write split (new shares per old), dividend (USD a share) or rename (value 1, and the former ticker in former)."
    )
    for value in (0.0, -1.0, np.inf):
        folder(tmp_path, actions=actions(value=[7.0, value]))
        assert (
            f"row 1 (SPY 2024-01-02 15:00:00.000000+00:00): value {value:g} is not above 0. Write new shares"
            in refused(tmp_path)
        )
    folder(tmp_path, actions=actions(ticker=["AAPL", "IBM"]))
    assert "row 1 (IBM 2024-01-02 15:00:00.000000+00:00): an action of IBM, of which there are no bars. Add" in refused(
        tmp_path
    )
    folder(tmp_path, actions=actions(effective_at=lambda f: f["effective_at"].dt.tz_localize(None)))
    assert "F/actions.parquet: column 'effective_at' has no time zone" in refused(tmp_path)
    folder(tmp_path, actions=pd.concat([actions(), actions().tail(1)]))
    assert "F/actions.parquet: row 2 (SPY" in refused(tmp_path)


def test_a_ticker_that_the_files_do_not_hold_is_a_problem_of_its_own(tmp_path):
    source = FileBars(folder(tmp_path, bars=bars()))
    fetched = source.bars(["AAPL", "APPL"], EVER)
    assert set(fetched.frame["ticker"]) == {"AAPL"}
    assert fetched.problems == {
        "APPL": f"{tmp_path}: unknown ticker 'APPL'; the bars are of AAPL, SPY; did you mean AAPL?"
    }
    with pytest.raises(
        SourceError, match=re.escape("unknown ticker 'ZZZZ'; the bars are of AAPL, SPY. Set TFT_TICKERS to")
    ):
        source.bars(["ZZZZ"], EVER)


def test_a_hundred_thousand_rows_are_checked_within_a_second(tmp_path):
    many = pd.concat([minutes("2024-01-02 00:00", 20_000, ticker=f"T{i}") for i in range(5)])
    folder(tmp_path, bars=many)
    began = time.perf_counter()
    FileBars(tmp_path)
    assert time.perf_counter() - began < 2.0  # 0.2 s on a quiet core


# Real folders -------------------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_five_real_stocks_with_their_posts_open(shared_data):
    source = FileBars(shared_data / "real" / "us5_2013_2016")
    frame = schema.validate(source.bars(source.universe(), EVER).frame, contracts.BARS)
    assert len(frame) == 24_133
    acted = schema.validate(source.actions(source.universe(), EVER).frame, contracts.ACTIONS)
    assert len(acted) == 56
    assert acted.query("kind == 'split'")[["ticker", "value"]].to_numpy().tolist() == [["AAPL", 7.0]]
    read = FilePosts(shared_data / "real" / "us5_2013_2016").posts(EVER).frame
    assert len(read) == 96_826
    schema.validate(read.assign(text_hash=""), contracts.POSTS)


@pytest.mark.shared
def test_real_minutes_become_the_hours_worked_out_by_hand(shared_data):
    path = shared_data / "real" / "us30_minute_2018"
    source = FileBars(path)
    assert source.note == "515,545 bars of 1 min were joined to 9,240 of a clock hour."
    frame = schema.validate(source.bars(["AAPL"], EVER).frame, contracts.BARS).set_index("bar_start")
    assert len(frame) == 44 * 7
    minute = pd.read_parquet(path / "bars.parquet").query("ticker == 'AAPL'").set_index("bar_start").sort_index()
    for hour, n in (
        ("2018-02-16 14:00", 31),
        ("2018-02-16 15:00", 60),
        ("2018-03-12 13:00", 31),
    ):  # summer time from March 11
        start = pd.Timestamp(hour, tz=UTC)
        inside = minute.loc[start : start + pd.Timedelta(minutes=59, seconds=59)]
        assert len(inside) == n
        row = frame.loc[start]
        assert row[list(PRICES)].tolist() == [
            inside["open"].iloc[0], inside["high"].max(), inside["low"].min(), inside["close"].iloc[-1],
        ]  # fmt: skip
        assert row["volume"] == pytest.approx(inside["volume"].sum())
        assert row["bar_end"] == start + pd.Timedelta(hours=1)


def test_a_rename_names_the_former_ticker(tmp_path: Path) -> None:
    made = actions(kind=["rename", "dividend"], value=[1.0, 1.25], former=["AAPX", None])
    source = FileBars(folder(tmp_path, bars=bars(), actions=made))
    acted = schema.validate(source.actions(["AAPL", "SPY"], EVER).frame, contracts.ACTIONS)
    assert acted[["ticker", "kind", "value"]].values.tolist() == [["AAPL", "rename", 1.0], ["SPY", "dividend", 1.25]]
    assert acted["former"].iloc[0] == "AAPX"
    assert acted["former"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": ["rename", "dividend"], "value": [1.0, 1.25]}, "a rename without a former ticker. Write it into the column former."),
        ({"kind": ["rename", "dividend"], "value": [2.0, 1.25], "former": ["AAPX", None]}, "value 2 of a rename is not 1"),
        ({"kind": ["rename", "dividend"], "value": [1.0, 1.25], "former": ["../x", None]}, "'../x' is no ticker"),
        ({"kind": ["rename", "dividend"], "value": [1.0, 1.25], "former": ["AAPL", None]}, "a ticker is renamed to itself"),
        ({"former": [None, "SPX"]}, "a dividend with a former ticker. Only a rename has one: leave it null."),
    ],
)  # fmt: skip
def test_a_rename_that_makes_no_sense_is_refused(tmp_path: Path, changed: dict[str, list[object]], said: str) -> None:
    folder(tmp_path, bars=bars(), actions=actions(**changed))
    assert said in refused(tmp_path)
