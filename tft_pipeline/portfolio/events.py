"""Frames as queues of moments, in whole microseconds: an event loop over a million bars has no time for a Series a row."""

from collections import deque
from typing import overload

import numpy as np
import pandas as pd

Queue = deque[tuple[int, dict[str, float]]]


@overload
def microseconds(times: pd.Timestamp) -> int: ...
@overload
def microseconds(times: pd.Series) -> list[int]: ...
def microseconds(times: pd.Timestamp | pd.Series) -> int | list[int]:
    """Since 1970, UTC. Of a Series, (n,)."""
    if isinstance(times, pd.Timestamp):
        return times.value // 1_000  # nanoseconds, whatever the unit
    found: list[int] = times.to_numpy("datetime64[us]").view(np.int64).tolist()
    return found


def moment(at: int) -> pd.Timestamp:
    """The inverse of microseconds."""
    return pd.Timestamp(at, unit="us", tz="UTC").as_unit("us")


def by_moment(frame: pd.DataFrame, time: str, value: str, *, since: int) -> Queue:
    """(moment, {ticker: value}) for each distinct moment of column `time` from since on, ascending."""
    order = frame[time].argsort(kind="stable").to_numpy()
    found: Queue = deque()
    tickers, values = frame["ticker"].tolist(), frame[value].tolist()
    times = microseconds(frame[time])
    for row in order.tolist():
        at = times[row]
        if at < since:
            continue
        if not found or found[-1][0] != at:
            found.append((at, {}))
        found[-1][1][tickers[row]] = values[row]
    return found
