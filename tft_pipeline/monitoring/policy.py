"""When drift asks for retraining, and when it has asked often enough. Level-triggered: from what is true now, not from what happened."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from tft_pipeline.config import MonitoringSettings

_OF_FORECASTS = ("coverage", "skill")
_LONGEST_COOLDOWN = timedelta(days=7)


@dataclass(frozen=True)
class Request:
    """wanted: train now. reason: a sentence with figures, either way. run_key: None unless wanted."""

    wanted: bool
    reason: str
    run_key: str | None = None


def retrain_request(
    drift: pd.DataFrame,
    *,
    last_trained_as_of: datetime | None,
    last_requested_at: datetime | None,
    attempts: int,
    now: datetime,
    settings: MonitoringSettings,
) -> Request:
    """Whether to retrain, from the newest day's DRIFT rows.

    Wanted when drifted_share of the features, or the forecasts' coverage or skill, lie beyond their thresholds; not again while a model
    exists that was trained since that day began, for the rows speak of the one before; nor within the cool-down of the last request,
    which doubles with each attempt, up to a week, so that a training that always fails is not tried every hour for ever.
    attempts: requests since the last model. The run key carries their number and the day, because Dagster consumes a key even when its
    run fails, or never starts.
    """
    if drift.empty:
        return Request(False, "nothing was judged yet: too few bars since the model was trained")
    day = drift["day_start"].max()
    if last_trained_as_of is not None and last_trained_as_of > day:
        return Request(
            False,
            f"a model was trained as of {last_trained_as_of:%Y-%m-%d %H:%M} UTC; the drift of {day:%Y-%m-%d} is of the one before",
        )
    features = drift[~drift["subject"].isin(_OF_FORECASTS)]
    forecasts = drift[drift["subject"].isin(_OF_FORECASTS) & drift["drifted"]]
    share = float(features["drifted"].mean()) if len(features) else 0.0
    found = f"{int(features['drifted'].sum())} of {len(features)} features drifted by {day:%Y-%m-%d}"
    for row in forecasts.itertuples():
        found += f", {row.subject} {row.statistic:.3f} > {row.threshold:.3f}"
    if share < settings.drifted_share and forecasts.empty:
        return Request(False, f"{found}; retraining is asked for from {settings.drifted_share:.0%} on")
    cooldown = min(timedelta(hours=settings.cooldown_hours) * 2 ** min(max(attempts - 1, 0), 10), _LONGEST_COOLDOWN)
    cooldown = max(cooldown, timedelta(hours=settings.cooldown_hours))
    if last_requested_at is not None and now - last_requested_at < cooldown:
        left = (cooldown - (now - last_requested_at)).total_seconds() / 3600
        return Request(
            False,
            f"{found}, but retraining was asked for {last_requested_at:%Y-%m-%d %H:%M} UTC (attempt {attempts}, no model yet); "
            f"again in {left:.1f} h",
        )
    return Request(True, found, run_key=f"drift-{day:%Y%m%d}-attempt-{attempts + 1}")
