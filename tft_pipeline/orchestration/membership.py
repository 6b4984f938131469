"""What membership means to frames: whose bars count when, in whose company a post is read, who may speak.

What belongs here: `ops.universe` applied to rows. What does not: the intervals themselves (`storage.universe`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.sentiment.mentions import find_mentions
from tft_pipeline.storage.universe import Interval

_DAYS_LAST = timedelta(days=1) - timedelta(microseconds=1)
_Flags = npt.NDArray[np.bool_]
TICKERS_TAG = "tft/tickers"  # of a run that is about some tickers only: their names with commas between
_FOUND_KEY = ["channel", "post_id", "created_at", "ticker"]


@dataclass(frozen=True)
class Membership:
    """Who was followed, and who a member, when. Without intervals, everybody is both at any time."""

    intervals: tuple[Interval, ...]

    def counted(self, tickers: pd.Series, moments: pd.Series) -> _Flags:
        """(n_rows,): whether each ticker was a member at its moment, UTC."""
        return self._within(tickers, moments, lambda one: one.member_from)

    def speaking(self, frame: pd.DataFrame, time: str) -> pd.DataFrame:
        """The rows of frame whose ticker was a member at the row's `time`."""
        kept: pd.DataFrame = frame[self.counted(frame["ticker"], frame[time])]
        return kept

    def followed(self, tickers: pd.Series, moments: pd.Series) -> _Flags:
        """(n_rows,): whether each ticker was followed at its moment, UTC."""
        return self._within(tickers, moments, lambda one: one.added_at)

    def on_its_day(self, frame: pd.DataFrame, now: datetime) -> pd.DataFrame:
        """The rows of frame, by day_start, of tickers that are followed now or were on that day."""
        days = frame["day_start"]
        current = {one.ticker for one in self.intervals if one.followed(now)}
        then = self.followed(frame["ticker"], days) | self.followed(frame["ticker"], days + _DAYS_LAST)
        kept: pd.DataFrame = frame[then | frame["ticker"].isin(current).to_numpy(dtype=np.bool_)]
        return kept

    def _within(self, tickers: pd.Series, moments: pd.Series, begin: Callable[[Interval], object]) -> _Flags:
        if not self.intervals:
            return np.ones(len(tickers), dtype=np.bool_)
        alike: dict[tuple[object, object], list[str]] = {}  # most have the same interval
        for one in self.intervals:
            if begin(one) is not None:
                alike.setdefault((begin(one), one.removed_at), []).append(one.ticker)
        found = np.zeros(len(tickers), dtype=np.bool_)
        for (since, until), names in alike.items():
            within = (moments >= since) & (moments < until if until is not None else True)
            found |= (tickers.isin(names) & within).to_numpy(dtype=np.bool_)
        return found


def mentions_among(
    posts: pd.DataFrame, intervals: Sequence[Interval], current: Sequence[str], *, only: Sequence[str] | None = None
) -> pd.DataFrame:
    """FOUND of posts: which ticker of the universe each speaks of. only: rows of these tickers.

    Whether a bare word or a shared name is a ticker depends on who else is looked for, so each post is read in the company of its time:
    a ticker that was followed when the post was known, among those who were then; one that came later, among those who were there when
    it came; one that never came after, not at all. So whoever comes later changes no row of those before. current: who is looked for
    where there are no intervals.
    """
    if not intervals:
        found = find_mentions(posts, current)
        return found if only is None else found[found["ticker"].isin(list(only))].reset_index(drop=True)
    changes = sorted({m for one in intervals for m in (one.added_at, one.removed_at) if m is not None})
    epochs = np.searchsorted(
        np.array([np.datetime64(change.replace(tzinfo=None), "us") for change in changes]),
        posts["known_at"].to_numpy("datetime64[us]"),
        side="right",
    )
    parts = [find_mentions(posts.iloc[:0], ())]
    for epoch in np.unique(epochs):
        of_epoch = posts[epochs == epoch]
        sought: set[str] = set()
        for change in changes[max(epoch - 1, 0) :]:
            company = [one.ticker for one in intervals if one.followed(change)]
            new = set(company) - sought
            sought |= new
            wanted = new if only is None else new & set(only)
            if wanted:
                found = find_mentions(of_epoch, company)
                parts.append(found[found["ticker"].isin(wanted)])
    return pd.concat(parts, ignore_index=True).sort_values(_FOUND_KEY, kind="stable", ignore_index=True)
