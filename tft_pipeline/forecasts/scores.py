"""What became of forecasts, once the bars they spoke of have closed."""

from typing import Any

import numpy as np
import pandas as pd

from tft_pipeline.contracts import SCORES
from tft_pipeline.training.calibration import pinball

_MOMENT = ["ticker", "issued_at", "horizon_hours"]


def score(quantiles: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """contracts.SCORES of each forecast in quantiles (contracts.QUANTILES) whose two bars are among features.

    actual: log return of the split-adjusted price, dividends not added, from the close of the bar that ends at issued_at to that of
    the one that ends at target_at: what the forecast spoke of. A forecast whose bar has not closed, or never came, has no row.
    error = p50 - actual.
    """
    prices = features[["ticker", "bar_end", "log_price"]]
    matched = quantiles.merge(
        prices.rename(columns={"bar_end": "issued_at", "log_price": "from_index"}), on=["ticker", "issued_at"]
    ).merge(prices.rename(columns={"bar_end": "target_at", "log_price": "to_index"}), on=["ticker", "target_at"])
    if matched.empty:
        return SCORES.empty()
    actual = (matched["to_index"] - matched["from_index"]).to_numpy()
    bands = matched[["p10", "p50", "p90"]].to_numpy()
    frame = matched[["model_id", *_MOMENT]].assign(
        matured_at=matched["target_at"],
        actual=actual,
        error=bands[:, 1] - actual,
        pinball=pinball(actual, bands),
        covered=(actual >= bands[:, 0]) & (actual <= bands[:, 2]),
    )
    return frame[SCORES.names].sort_values(list(SCORES.key), kind="stable", ignore_index=True)


def summary(scores_model: pd.DataFrame, scores_baseline: pd.DataFrame) -> dict[str, Any]:
    """pinball, baseline_pinball (log return), skill (1 - pinball / baseline_pinball), coverage_80 (share) and n, over the
    forecasts (ticker, issued_at, horizon_hours) that both made. Figures are None when there are none.

    One model each: where a forecast moment has two (a model that was replaced), both are counted against the same baseline.
    """
    common = scores_model.merge(scores_baseline[[*_MOMENT, "pinball"]], on=_MOMENT, suffixes=("", "_baseline"))
    if common.empty:
        return {"pinball": None, "baseline_pinball": None, "skill": None, "coverage_80": None, "n": 0}
    model, baseline = float(common["pinball"].mean()), float(common["pinball_baseline"].mean())
    return {
        "pinball": model,
        "baseline_pinball": baseline,
        "skill": 1 - model / baseline if baseline > 0 else None,
        "coverage_80": float(np.mean(common["covered"])),
        "n": len(common),
    }
