"""Bars, corporate actions and posts from a folder of Parquet files in one fixed layout.

    bars*.parquet      ticker, bar_start, bar_end, open, high, low, close, volume    UTC; prices as traded
    actions*.parquet   ticker, effective_at, kind (split | dividend | rename), value  optional; a rename has value 1 and
                       a column more, former: the ticker under which the same share traded before
    posts*.parquet     id, created_at, channel, text, score                          optional

Opening a folder reads and checks all of it, so that a bad row in the last file stops the work before the first
row is written.
"""

import difflib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tft_pipeline import contracts
from tft_pipeline.errors import SourceError
from tft_pipeline.sources import file_tables
from tft_pipeline.sources._resampling import joined
from tft_pipeline.sources.file_tables import Files
from tft_pipeline.sources.protocols import Fetched, Span, Watched, unwatched

_HOUR_US = 3_600_000_000
_KINDS = ["split", "dividend", "rename"]


class FileBars:
    """BarSource of a folder. Bars shorter than an hour are joined to clock hours; `note` says so."""

    name = "files"
    simulated = False
    delay = timedelta(0)

    def __init__(self, folder: Path) -> None:
        """Raises SourceError for the first thing that is wrong with the folder, its bars or its actions."""
        self.watched: Watched = unwatched
        self.folder = Path(folder)
        files = file_tables.read(self.folder, file_tables.BARS)
        if files is None:
            raise SourceError(
                f"{self.folder}: holds no bars*.parquet. Put one there with the columns "
                f"{list(file_tables.BARS.columns)}, or name another folder."
            )
        if not files.table.num_rows:
            raise SourceError(f"{files.paths[0]}: holds no rows. Put bars there, or name another folder.")
        file_tables.check_tickers(files)
        length_us = _check_times(files)
        file_tables.check_unique(files, ("ticker", "bar_start"), "Keep one row for each bar.")
        bars = files.table.sort_by([("ticker", "ascending"), ("bar_start", "ascending")]).to_pandas()
        self._tickers = tuple(dict.fromkeys(bars["ticker"]))
        self.note: str | None = None
        if np.all(length_us < _HOUR_US):
            bars, self.note = _by_the_hour(bars)
        self._bars = _completed(bars, self.name, known_at="bar_end")
        self._actions = self._checked_actions()

    def universe(self) -> tuple[str, ...]:
        return self._tickers

    def span(self) -> Span | None:
        if self._bars.empty:  # minutes that do not fill one hour
            return None
        return Span(self._bars["bar_start"].min().to_pydatetime(), self._bars["bar_end"].max().to_pydatetime())

    def bars(self, tickers: Sequence[str], span: Span) -> Fetched:
        return self._chosen(self._bars, "bar_start", tickers, span)

    def actions(self, tickers: Sequence[str], span: Span) -> Fetched:
        return self._chosen(self._actions, "effective_at", tickers, span)

    def _chosen(self, frame: pd.DataFrame, time: str, tickers: Sequence[str], span: Span) -> Fetched:
        problems = {t: self.unknown(t) for t in dict.fromkeys(tickers) if t not in self._tickers}
        if problems and len(problems) == len(set(tickers)):
            raise SourceError(
                " ".join(list(problems.values())[:3]) + " Set TFT_TICKERS to tickers that the files hold."
            )
        inside = (frame[time] >= span.start) & (frame[time] < span.end)
        return Fetched(frame[inside & frame["ticker"].isin(list(tickers))].reset_index(drop=True), problems)

    def unknown(self, ticker: str) -> str:
        near = difflib.get_close_matches(ticker.upper(), self._tickers, n=3, cutoff=0.5)
        offered = ", ".join(self._tickers[:12]) + (
            f" … ({len(self._tickers)} in all)" if len(self._tickers) > 12 else ""
        )
        guess = f"; did you mean {' or '.join(near)}?" if near else "."
        return f"{self.folder}: unknown ticker {ticker!r}; the bars are of {offered}{guess}"

    def _checked_actions(self) -> pd.DataFrame:
        files = file_tables.read(self.folder, file_tables.ACTIONS)
        if files is None:
            return contracts.ACTIONS.empty()
        table = files.table
        file_tables.check_tickers(files)
        files.refuse(
            ~np.asarray(pc.is_in(table["ticker"], value_set=pa.array(self._tickers, pa.large_string()))),
            lambda row: f"an action of {files.value('ticker', row)}, of which there are no bars",
            "Add its bars or leave the action out.",
        )
        files.refuse(
            ~np.asarray(pc.is_in(table["kind"], value_set=pa.array(_KINDS, pa.large_string()))),
            lambda row: f"kind {files.value('kind', row)!r} is unknown",
            "Write split (new shares per old), dividend (USD a share) or rename (value 1, and the former ticker in former).",
        )
        _check_renames(files)
        value = table["value"].to_numpy()
        files.refuse(
            ~((value > 0) & np.isfinite(value)),
            lambda row: f"value {value[row]:g} is not above 0",
            "Write new shares per old for a split, USD a share for a dividend.",
        )
        file_tables.check_unique(files, ("ticker", "effective_at", "kind"), "Keep one row for each action.")
        frame = table.sort_by([(name, "ascending") for name in contracts.ACTIONS.key]).to_pandas()
        return _completed(frame, self.name, known_at="effective_at")[contracts.ACTIONS.names]


class FilePosts:
    """PostSource of a folder. A post without words is "", one without a score has 0 votes."""

    name = "files"
    simulated = False
    delay = timedelta(0)

    def __init__(self, folder: Path) -> None:
        """Raises SourceError for the first thing that is wrong with the folder or its posts."""
        self.folder = Path(folder)
        files = file_tables.read(self.folder, file_tables.POSTS)
        if files is None:
            raise SourceError(
                f"{self.folder}: holds no posts*.parquet. Put one there with the columns "
                f"{list(file_tables.POSTS.columns)}, or set posts=none."
            )
        for column in ("id", "channel"):
            files.refuse(
                np.asarray(pc.equal(files.table[column], "")),
                f"{column} is empty",
                "Fill it in or leave the row out.",
            )
        file_tables.check_unique(files, ("channel", "id"), "Keep one row for each post of a channel.")
        # Arrow all the way: a million posts stay as large as their text, and only the span asked for becomes a frame.
        self._table = files.table.sort_by([("created_at", "ascending")]).combine_chunks()
        self._created_at = pd.DatetimeIndex(self._table["created_at"].to_pandas())

    def span(self) -> Span | None:
        """First post … just after the last."""
        if not len(self._created_at):
            return None
        return Span(
            self._created_at[0].to_pydatetime(), self._created_at[-1].to_pydatetime() + timedelta(microseconds=1)
        )

    def posts(self, span: Span) -> Fetched:
        first, last = self._created_at.searchsorted(pd.DatetimeIndex([span.start, span.end])).tolist()
        frame = self._table.slice(first, max(last - first, 0)).to_pandas().rename(columns={"id": "post_id"})
        frame["text"] = frame["text"].fillna("")
        frame["score"] = frame["score"].fillna(0).astype("int64")
        frame = _completed(frame, self.name, known_at="created_at")
        names = [name for name in contracts.POSTS.names if name in frame.columns]
        return Fetched(frame[names].sort_values(list(contracts.POSTS.key), kind="stable", ignore_index=True), {})


def _check_renames(files: Files) -> None:
    """Raises SourceError for a rename without a former ticker, one of a ticker to itself, and for a former ticker of anything else."""
    file_tables.check_tickers(files, "former")
    renames, named = np.asarray(pc.equal(files.table["kind"], "rename")), np.asarray(files.table["former"].is_valid())
    files.refuse(renames & ~named, "a rename without a former ticker", "Write it into the column former.")
    files.refuse(
        named & ~renames,
        lambda row: f"a {files.value('kind', row)} with a former ticker",
        "Only a rename has one: leave it null.",
    )
    same = np.asarray(pc.fill_null(pc.equal(files.table["former"], files.table["ticker"]), False))
    files.refuse(same, "a ticker is renamed to itself", "Leave the row out.")
    value = files.table["value"].to_numpy()
    files.refuse(
        renames & (value != 1),
        lambda row: f"value {value[row]:g} of a rename is not 1",
        "Write 1: a share stays one share.",
    )


def _check_times(files: Files) -> npt.NDArray[np.int64]:
    """(n_rows,) microseconds that each bar lasts. Raises SourceError for a bar that is not a bar of an hour at most."""
    start, end = (files.table[name].cast(pa.int64()).to_numpy() for name in ("bar_start", "bar_end"))
    length = end - start
    files.refuse(
        length <= 0,
        lambda row: f"bar_end {files.value('bar_end', row)} is not after bar_start",
        "Write the first moment after the bar.",
    )
    files.refuse(
        length > _HOUR_US,
        lambda row: f"the bar lasts {timedelta(microseconds=int(length[row]))}, longer than an hour",
        "Bring bars of an hour or less.",
    )
    short = length < _HOUR_US
    if short.mean() > 0.5:  # a few short bars, where a session ends within the hour, are hourly bars all the same
        files.refuse(~short, "an hourly bar among shorter ones", "Keep bars of one length in a folder.")
        files.refuse(
            start // _HOUR_US != (end - 1) // _HOUR_US,
            lambda row: f"the bar reaches over the hour to {files.value('bar_end', row)}",
            "Bring bars that lie within one clock hour.",
        )
    lasting: npt.NDArray[np.int64] = length
    return lasting


def _by_the_hour(bars: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Bars of the clock hours that the shorter bars lie in, and a sentence about it.

    bars: sorted by ticker and bar_start. An hour is complete once any ticker has a bar that ends with it or after it:
    a thin ticker need not trade in its last minute.
    """
    hours = joined(bars, bars["bar_start"].dt.floor("h"))
    hours.insert(2, "bar_end", hours["bar_start"] + pd.Timedelta(hours=1))
    complete = hours["bar_end"] <= bars["bar_end"].max()
    length = bars["bar_end"].iloc[0] - bars["bar_start"].iloc[0]
    minutes = length.total_seconds() / 60
    note = f"{len(bars):,} bars of {minutes:g} min were joined to {int(complete.sum()):,} of a clock hour"
    dropped = int((~complete).sum())
    if dropped:
        note += f"; {dropped} of the last hour are left out, as it is not over in the files"
    return hours[complete].reset_index(drop=True), note + "."


def _completed(frame: pd.DataFrame, source: str, *, known_at: str) -> pd.DataFrame:
    """frame with `source` and `known_at`; texts as pandas str."""
    texts = {
        name: "str" for name in ("ticker", "kind", "former", "post_id", "channel", "text") if name in frame.columns
    }
    frame = frame.astype(texts)
    return frame.assign(
        source=pd.Series([source] * len(frame), dtype="str", index=frame.index), known_at=frame[known_at]
    )
