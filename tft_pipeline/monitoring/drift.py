"""Do recent features and forecasts still look like those the model was trained on?

Hourly features are autocorrelated, so the tables of the Kolmogorov-Smirnov test would cry wolf every week. The thresholds here are
measured: how far do blocks of the reference, as long as the recent stretch, lie from the rest of the reference?
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.contracts import DRIFT, OBSERVED_FEATURES

BINS = 64
BLOCKS = 60  # overlapping, evenly spread over the reference
MARGIN = 1.25  # times the farthest block: blocks overlap, so their largest distance understates the next one's
SHORTEST_BARS = 35  # recent bars of the market below which nothing is said
COVERAGE_THRESHOLD = 0.08  # away from 80 %
SKILL_THRESHOLD = 0.02  # below zero
SHORTEST_SCORES = 200

Floats = npt.NDArray[np.float64]


def drift(
    reference: pd.DataFrame,
    recent: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    model_id: str,
    baseline_id: str,
    day_start: pd.Timestamp,
) -> pd.DataFrame:
    """DRIFT rows of one day: one for each observed feature, one for `coverage` and one for `skill`; none where there is too little.

    reference: FEATURES the model was trained on. recent: FEATURES since. scores: recent SCORES of the model and of the baseline.
    statistic of a feature: the largest gap between the two cumulative distributions, over BINS bins of the reference's quantiles.
    """
    parts = [
        _of_features(reference, recent),
        _of_scores(scores[scores["model_id"] == model_id], scores[scores["model_id"] == baseline_id]),
    ]
    rows = [row for part in parts for row in part]
    if not rows:
        return DRIFT.empty()
    frame = pd.DataFrame(rows).assign(day_start=day_start, model_id=model_id)
    frame["drifted"] = frame["statistic"] > frame["threshold"]
    return frame[DRIFT.names].astype(DRIFT.empty().dtypes.to_dict()).sort_values("subject", ignore_index=True)


def _of_features(reference: pd.DataFrame, recent: pd.DataFrame) -> list[dict[str, object]]:
    moments, bar = np.unique(reference["bar_start"].to_numpy(), return_inverse=True)
    length = recent["bar_start"].nunique()
    if length < SHORTEST_BARS or len(moments) < 3 * length:
        return []
    starts = np.unique(np.linspace(0, len(moments) - length, BLOCKS).astype(int))
    rows: list[dict[str, object]] = []
    for column in OBSERVED_FEATURES:
        values, now = reference[column.name].to_numpy(np.float64), recent[column.name].to_numpy(np.float64)
        edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
        counts = _histograms(np.searchsorted(edges, values, side="right"), bar, len(moments), len(edges) + 1)
        summed = np.vstack((np.zeros((1, counts.shape[1])), counts.cumsum(axis=0)))
        blocks = summed[starts + length] - summed[starts]
        usual = _distance(blocks, summed[-1] - blocks).max()
        found = np.bincount(np.searchsorted(edges, now, side="right"), minlength=len(edges) + 1)[None, :]
        rows.append(
            {
                "subject": column.name,
                "statistic": float(_distance(found.astype(np.float64), summed[-1][None, :])[0]),
                "threshold": float(min(MARGIN * usual, 0.99)),
                "reference_rows": len(values),
                "recent_rows": len(now),
            }
        )
    return rows


def _histograms(bins: npt.NDArray[np.intp], bar: npt.NDArray[np.intp], n_bars: int, n_bins: int) -> Floats:
    """(n_bars, n_bins) counts."""
    flat = np.bincount(bar * n_bins + bins, minlength=n_bars * n_bins)
    return flat.reshape(n_bars, n_bins).astype(np.float64)


def _distance(left: Floats, right: Floats) -> Floats:
    """(n,) largest gaps between the cumulative shares of two (n, n_bins) counts."""
    a = left.cumsum(axis=1) / np.maximum(left.sum(axis=1, keepdims=True), 1)
    b = right.cumsum(axis=1) / np.maximum(right.sum(axis=1, keepdims=True), 1)
    return np.asarray(np.abs(a - b).max(axis=1), dtype=np.float64)


def _of_scores(of_model: pd.DataFrame, of_baseline: pd.DataFrame) -> list[dict[str, object]]:
    if len(of_model) < SHORTEST_SCORES:
        return []
    counts = {"reference_rows": 0, "recent_rows": len(of_model)}
    away = abs(float(of_model["covered"].mean()) - 0.8)
    rows: list[dict[str, object]] = [
        {"subject": "coverage", "statistic": away, "threshold": COVERAGE_THRESHOLD, **counts}
    ]
    key = ["ticker", "issued_at", "horizon_hours"]
    both = of_model.merge(of_baseline, on=key, suffixes=("", "_baseline"))
    if len(both) >= SHORTEST_SCORES and both["pinball_baseline"].mean() > 0:
        loss = float(both["pinball"].mean() / both["pinball_baseline"].mean() - 1)  # minus the skill
        rows.append(
            {"subject": "skill", "statistic": loss, "threshold": SKILL_THRESHOLD, **counts, "recent_rows": len(both)}
        )
    return rows
