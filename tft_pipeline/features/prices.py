"""One ticker's bars as arrays that can be compared across splits: what all price features are computed from."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tft_pipeline.features.rolling import Floats, before


@dataclass(frozen=True)
class Prices:
    """(n_bars,) each, ascending bars of one ticker. Prices in dollars times, volume in shares over, the split factor."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    dividend: Floats  # going ex with the bar, in the same dollars as the prices
    opens_session: "np.ndarray[tuple[int], np.dtype[np.bool_]]"  # the bar before lies in another session

    @property
    def previous_close(self) -> Floats:
        return before(self.close)

    @property
    def log_return(self) -> Floats:
        """Total return of each bar against the one before; the first is NaN."""
        return np.asarray(np.log((self.close + self.dividend) / self.previous_close), dtype=np.float64)


def adjusted(bars: pd.DataFrame) -> Prices:
    """One ticker's ascending bars, as traded, with split_factor, dividend and session_open: in prices that splits do not move."""
    factor, opened = bars["split_factor"].to_numpy(np.float64), bars["session_open"].to_numpy("datetime64[us]")
    values = {name: bars[name].to_numpy(np.float64) * factor for name in ("open", "high", "low", "close")}
    return Prices(
        **values,
        volume=bars["volume"].to_numpy(np.float64) / factor,
        dividend=bars["dividend"].to_numpy(np.float64) * factor,
        opens_session=np.concatenate(([True], opened[1:] != opened[:-1])),
    )
