"""What was issued when: a row of `forecasts.issues` for each model and moment, with the hashes that `replay` must meet."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.contracts import ACTIONS, BARS, FEATURES, ISSUES, QUANTILES
from tft_pipeline.features.matrix import WARMUP_DAYS
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.hashes import hashes_by
from tft_pipeline.storage.issues import moments_learned

_Times = npt.NDArray[np.datetime64]
_DAY = np.timedelta64(1, "D")


def issues_of(pipeline: Pipeline, window: Window, features: pd.DataFrame, quantiles: pd.DataFrame) -> pd.DataFrame:
    """ISSUES of the window's QUANTILES.

    features: FEATURES, those whose bars ended at the issues' moments among them; only members' are hashed.
    """
    if quantiles.empty:
        return ISSUES.empty()
    spoken = features[features["bar_end"].isin(quantiles["issued_at"].unique())]
    spoken = pipeline.membership.speaking(spoken, "bar_end")  # who came later had no part in it
    of_features = hashes_by(spoken, FEATURES, "bar_end")
    rows = []
    for model_id, of_model in quantiles.groupby("model_id", sort=True):
        counts = of_model.groupby("issued_at")["ticker"].nunique()
        for issued_at, forecast_hash in hashes_by(of_model, QUANTILES, "issued_at").items():
            rows.append((model_id, issued_at, of_features[issued_at], forecast_hash, int(counts[issued_at])))
    frame = pd.DataFrame(rows, columns=["model_id", "issued_at", "features_hash", "forecast_hash", "tickers"])
    known = known_from(pipeline, window, spoken.groupby("bar_end")["bar_start"].min())
    frame = frame.assign(known_at=frame["issued_at"].map(known), code_version=pipeline.code_version)
    return frame.astype(ISSUES.empty().dtypes.to_dict())[ISSUES.names]


def known_from(pipeline: Pipeline, window: Window, bar_starts: pd.Series) -> pd.Series:
    """By moment of issue: when everything that entered its features was known, and read as of then gives just that.

    bar_starts: (n_issues,) start of the bar that the issue's moment ended, by that moment. The features of a day that is over were read
    as of its end, so a correction of the same day is in them: then the issue is known from the correction on, not from its bar's end.
    Those of a day that is still going were read now, and that is when they are issued. So known_at is never before issued_at, and never
    after the moment as of which the window's raw tables are read.
    """
    issued = bar_starts.index.to_numpy("datetime64[us]")
    begins: _Times = bar_starts.to_numpy("datetime64[us]").astype("datetime64[D]").astype("datetime64[us]")
    delay = np.timedelta64(pipeline.bars.delay)
    ends = begins + _DAY + delay
    now = np.datetime64(pd.Timestamp(window.known).tz_convert(None), "us")
    read_as_of = np.minimum(ends, now)
    since = begins - WARMUP_DAYS * _DAY
    # The day before was read as of its own end, and the delay may reach into this one.
    known = np.maximum(issued, np.minimum(begins + delay, read_as_of))
    first = pd.Timestamp(since.min(), tz="UTC").to_pydatetime()
    reading = {"end": window.end, "known_by": window.known}
    bars = moments_learned(pipeline.database, BARS, first, **reading)
    _raise(known, bars, issued, since, read_as_of)
    # A split of any age moves the level of the prices after it.
    actions = moments_learned(pipeline.database, ACTIONS, None, **reading)
    _raise(known, actions, issued, None, read_as_of)
    known = np.where(now < ends, np.maximum(known, now), known)
    return pd.Series(pd.DatetimeIndex(known).tz_localize("UTC"), index=bar_starts.index)


def _raise(known: _Times, news: pd.DataFrame, issued: _Times, since: _Times | None, read_as_of: _Times) -> None:
    """Make known no earlier than what was learned, and read, of rows that lie before the issue, and not before since."""
    at, learned = (news[name].to_numpy("datetime64[us]") for name in ("at", "learned"))
    low, high = np.searchsorted(issued, at, side="right"), np.searchsorted(issued, learned, side="left")
    for row in np.flatnonzero(low < high):  # what is known no later than the first issue that uses it, raises nothing
        part = slice(low[row], high[row])
        used = learned[row] <= read_as_of[part]
        if since is not None:
            used &= at[row] >= since[part]
        known[part] = np.where(used, np.maximum(known[part], learned[row]), known[part])
