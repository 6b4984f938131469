"""Arrays of quantiles to rows of contracts.QUANTILES: one place that says what issued_at and target_at are."""

from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.contracts import QUANTILES
from tft_pipeline.errors import ContractError
from tft_pipeline.training.calibration import Floats
from tft_pipeline.training.windows import Panel


def quantile_rows(model_id: str, panel: Panel, origins: npt.NDArray[np.int64], log_returns: Floats) -> pd.DataFrame:
    """contracts.QUANTILES by ticker, issued_at, horizon.

    origins: (n,) ticker * n_bars + bar, ascending. log_returns: (n, H, 3). issued_at is the end of the origin's bar,
    target_at the end of the h-th expected bar after it.
    """
    n, horizon = log_returns.shape[:2]
    if n == 0:
        return QUANTILES.empty()
    ticker, bar = np.divmod(origins, panel.n_bars)
    ahead = np.arange(1, horizon + 1)
    rows = {
        "model_id": np.repeat(model_id, n * horizon),
        "ticker": np.repeat(np.array(panel.tickers)[ticker], horizon),
        "issued_at": _utc(np.repeat(panel.bar_end[bar], horizon)),
        "horizon_hours": np.tile(ahead, n).astype("int64"),
        "target_at": _utc(panel.bar_end[bar[:, None] + ahead].ravel()),
        **{name: log_returns[:, :, i].ravel() for i, name in enumerate(("p10", "p50", "p90"))},
    }
    return pd.DataFrame(rows).astype({"model_id": "str", "ticker": "str"})


def issued_within(panel: Panel, start: datetime, end: datetime) -> npt.NDArray[np.bool_]:
    """(n_bars,) whether start <= bar_end < end. Raises ContractError for a moment without a time zone."""
    edges = []
    for name, moment in (("start", start), ("end", end)):
        if moment.tzinfo is None:
            raise ContractError(f"{name}={moment.isoformat()} has no time zone; times are UTC throughout.")
        edges.append(np.datetime64(pd.Timestamp(moment).tz_convert("UTC").tz_localize(None), "us"))
    within: npt.NDArray[np.bool_] = (panel.bar_end >= edges[0]) & (panel.bar_end < edges[1])
    return within


def _utc(times: npt.NDArray[np.datetime64]) -> pd.Series:
    column: pd.Series = pd.Series(times.astype("datetime64[us]")).dt.tz_localize("UTC")
    return column
