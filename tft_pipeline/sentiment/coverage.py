"""Which minutes of each hour were surely read, by channel and kind of post. Pure.

One run reads a part of an hour, and the next another: kept by the minute, the parts add up, and what was read once stays read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.schema import UTC

_MINUTE_US, _HOUR_MINUTES = 60_000_000, 60
KEY = ["channel", "kind", "hour_start"]


@dataclass(frozen=True)
class Stretch:
    """A channel's posts of one kind are all there for start <= created_at < end."""

    channel: str
    kind: str
    start: datetime
    end: datetime


def minutes_covered(
    asked: Iterable[tuple[str, str]], stretches: Iterable[Stretch], *, start: datetime, end: datetime
) -> pd.DataFrame:
    """A row for each (channel, kind) of asked and each clock hour that begins in start <= t < end: channel, kind, hour_start, minutes.

    minutes: bit n (worth 2^n) is set where minute n of the hour lies within a stretch as a whole; 0: asked for in vain. Sorted by key.
    """
    hours = pd.date_range(pd.Timestamp(start).floor("h"), end, freq="h").as_unit("us")
    hours = hours[hours < pd.Timestamp(end)]
    first = hours.asi8 // _MINUTE_US
    masks = {one: np.zeros(len(hours), dtype=np.int64) for one in sorted(set(asked))}
    for one in stretches:
        mask = masks[one.channel, one.kind]
        mask |= _bits(first, -(-_microseconds(one.start) // _MINUTE_US), _microseconds(one.end) // _MINUTE_US)
    channels, kinds = ([key[place] for key in masks] for place in (0, 1))
    return pd.DataFrame({
        "channel": pd.Series(np.repeat(channels, len(hours)), dtype="str"),
        "kind": pd.Series(np.repeat(kinds, len(hours)), dtype="str"),
        "hour_start": pd.Series(np.tile(hours, len(masks)), dtype=UTC),
        "minutes": pd.Series(np.concatenate([*masks.values(), np.empty(0, dtype=np.int64)]), dtype="int64"),
    })  # fmt: skip


def together(found: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    """found with the minutes of held added, row by row; rows that only held has are left out. Both: KEY and minutes."""
    # Reindexed, not merged: a missing row would turn 60 bits into a float, which has 53.
    before = held.set_index(KEY)["minutes"].reindex(pd.MultiIndex.from_frame(found[KEY]), fill_value=0)
    return found.assign(minutes=found["minutes"].to_numpy() | before.to_numpy())


def counted(rows: pd.DataFrame, end: datetime) -> pd.DataFrame:
    """rows with `covered` and `asked`: minutes of each hour that were read, and that had passed by end (0…60)."""
    passed = (_microseconds(end) - pd.DatetimeIndex(rows["hour_start"]).as_unit("us").asi8) // _MINUTE_US
    covered = np.bitwise_count(rows["minutes"].to_numpy()).astype(np.int64)
    return rows.assign(covered=covered, asked=np.clip(passed, 0, _HOUR_MINUTES))


def _bits(first: npt.NDArray[np.int64], begin: int, end: int) -> npt.NDArray[np.int64]:
    """(n_hours,) bits of the minutes begin <= m < end. first: (n_hours,) each hour's first minute; all counted since 1970."""
    low, high = (np.clip(bound - first, 0, _HOUR_MINUTES) for bound in (begin, end))
    one = np.int64(1)
    bits: npt.NDArray[np.int64] = np.where(high > low, (one << high) - (one << low), 0)
    return bits


def _microseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - datetime.fromtimestamp(0, moment.tzinfo)) // timedelta(microseconds=1)
