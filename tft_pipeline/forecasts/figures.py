"""Pictures of forecasts, as PNG bytes. No global state: figures are made and dropped in place."""

import io

import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.errors import ContractError

_PAST_BARS = 40


def fan_chart(quantiles: pd.DataFrame, features: pd.DataFrame, ticker: str) -> bytes:
    """PNG, under 60 KB: the ticker's last closes, the newest forecast's P10…P90 fan in dollars.

    quantiles: contracts.QUANTILES of one model. features: contracts.FEATURES around it; the bar at issued_at anchors the fan.
    Raises ContractError when the ticker has no forecast, or no bar where its newest forecast was issued.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mine = quantiles[quantiles["ticker"] == ticker].sort_values(["issued_at", "horizon_hours"])
    if mine.empty:
        raise ContractError(
            f"fan chart: {ticker} has no forecast; there are some of {sorted(set(quantiles['ticker']))[:10]}."
        )
    issued_at = mine["issued_at"].iloc[-1]
    fan = mine[mine["issued_at"] == issued_at]
    bars = features[features["ticker"] == ticker].sort_values("bar_end")
    past = bars[bars["bar_end"] <= issued_at].tail(_PAST_BARS)
    if past.empty or past["bar_end"].iloc[-1] != issued_at:
        raise ContractError(
            f"fan chart: {ticker} has no bar that ends at issued_at={issued_at}. Give features up to that moment."
        )
    anchor = past["close"].iloc[-1]
    # In dollars of the newest bar: log_price knows no splits, so the line has no jump where the price as traded had one.
    dollars = anchor * _growth(past["log_price"] - past["log_price"].iloc[-1])

    figure = Figure(figsize=(7.2, 3.2), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    # Trading hours on the axis, not clock time: nights would be most of the picture.
    axes.plot(range(1 - len(past), 1), dollars, color="#24292f", linewidth=1.4, label="close")
    ahead = [0, *fan["horizon_hours"]]
    low, middle, high = ([anchor, *(anchor * _growth(fan[name]))] for name in ("p10", "p50", "p90"))
    axes.fill_between(ahead, low, high, color="#0969da", alpha=0.22, linewidth=0, label="P10…P90")
    axes.plot(ahead, middle, color="#0969da", linewidth=1.6, label="P50")
    axes.axvline(0, color="#8c959f", linewidth=0.8, linestyle=":")
    axes.set_title(f"{ticker}: {fan['model_id'].iloc[0]}, issued {issued_at:%Y-%m-%d %H:%M} UTC", fontsize=9)
    axes.set_xlabel("trading hours from the forecast", fontsize=8)
    axes.set_ylabel("USD", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _growth(log_returns: pd.Series) -> npt.NDArray[np.float64]:
    growth: npt.NDArray[np.float64] = np.exp(log_returns.to_numpy(dtype=np.float64))
    return growth
