"""Equity and drawdown as a picture."""

from io import BytesIO

import pandas as pd
from matplotlib.figure import Figure


def equity_curve(equity: pd.DataFrame) -> bytes:
    """PNG of EQUITY: dollars above, drawdown below. Figure is used without pyplot, which keeps global state."""
    marks = equity.sort_values("marked_at")
    figure = Figure(figsize=(8, 4.2), dpi=90, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    times = marks["marked_at"].dt.tz_convert(None)
    above.plot(times, marks["equity_cents"] / 100, color="#1f6f8b", linewidth=1.2)
    above.set_ylabel("equity, USD")
    above.ticklabel_format(axis="y", style="plain", useOffset=False)
    below.fill_between(times, 100 * marks["drawdown"], 0, color="#b3492f", alpha=0.6)
    below.set_ylabel("drawdown, %")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
