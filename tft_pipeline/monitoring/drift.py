"""Do recent features and forecasts still look like those the model was trained on?"""

import numpy as np
import pandas as pd

from tft_pipeline.contracts import DRIFT, OBSERVED_FEATURES
from tft_pipeline.monitoring.blocks import distance, too_far

SHORTEST_DAYS = 5  # recent trading days below which nothing is said
SHORTEST_SCORES, SHORTEST_SCORED_DAYS = 200, 10
BLOCKS_AT_LEAST = 3  # stretches as long as the recent one that the reference must hold
COVERAGE = 0.8  # what lies between P10 and P90
COVERAGE_AWAY = 0.05  # smaller deviations are no drift, however many scores there are
SKILL_LOST = 0.02


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
    A feature's statistic and threshold: see blocks.distance. `coverage`: |share of returns within P10…P90 - 0.8|. `skill`: mean pinball
    loss over the baseline's, minus 1, so that above 0 the baseline is better. Their thresholds allow for the chance in daily means
    (blocks.too_far), and are never less than COVERAGE_AWAY and SKILL_LOST.
    """
    rows = [
        *_of_features(reference, recent),
        *_of_scores(scores[scores["model_id"] == model_id], scores[scores["model_id"] == baseline_id]),
    ]
    if not rows:
        return DRIFT.empty()
    frame = pd.DataFrame(rows).assign(day_start=day_start, model_id=model_id)
    frame["drifted"] = frame["statistic"] > frame["threshold"]
    return frame[DRIFT.names].astype(DRIFT.empty().dtypes.to_dict()).sort_values("subject", ignore_index=True)


def _of_features(reference: pd.DataFrame, recent: pd.DataFrame) -> list[dict[str, object]]:
    every, days = np.unique(reference["bar_start"].dt.floor("D").to_numpy("datetime64[us]"), return_inverse=True)
    recent_days = recent["bar_start"].dt.floor("D").nunique()
    if recent_days < SHORTEST_DAYS or len(every) < BLOCKS_AT_LEAST * recent_days:
        return []
    rows: list[dict[str, object]] = []
    for column in OBSERVED_FEATURES:
        then, now = (frame[column.name].to_numpy(np.float64) for frame in (reference, recent))
        found = distance(then, days, now, recent_days=recent_days)
        rows.append(_row(column.name, found.statistic, found.threshold, len(then), len(now)))
    return rows


def _of_scores(of_model: pd.DataFrame, of_baseline: pd.DataFrame) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    if _enough(of_model):
        covered = of_model["covered"].astype("float64")
        away = abs(float(covered.mean()) - COVERAGE)
        rows.append(_row("coverage", away, max(_too_far(of_model, covered, sides=2), COVERAGE_AWAY), 0, len(of_model)))
    both = of_model.merge(of_baseline, on=["ticker", "issued_at", "horizon_hours"], suffixes=("", "_baseline"))
    if _enough(both) and both["pinball_baseline"].mean() > 0:
        usual = float(both["pinball_baseline"].mean())
        lost = float(both["pinball"].mean()) / usual - 1
        # A ratio of means, to first order, is a mean.
        linear = (both["pinball"] - (1 + lost) * both["pinball_baseline"]) / usual
        rows.append(_row("skill", lost, max(_too_far(both, linear, sides=1), SKILL_LOST), 0, len(both)))
    return rows


def _enough(scores: pd.DataFrame) -> bool:
    return len(scores) >= SHORTEST_SCORES and scores["issued_at"].dt.floor("D").nunique() >= SHORTEST_SCORED_DAYS


def _too_far(scores: pd.DataFrame, values: pd.Series, *, sides: int) -> float:
    """blocks.too_far of the days on which the forecasts were issued."""
    by_day = values.groupby(scores["issued_at"].dt.floor("D")).agg(["mean", "size"])
    return too_far(by_day["mean"].to_numpy(np.float64), by_day["size"].to_numpy(np.float64), sides=sides)


def _row(subject: str, statistic: float, threshold: float, reference_rows: int, recent_rows: int) -> dict[str, object]:
    return {
        "subject": subject, "statistic": statistic, "threshold": threshold, "reference_rows": reference_rows,
        "recent_rows": recent_rows,
    }  # fmt: skip
