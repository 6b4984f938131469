"""From quantiles to a decision: is there an edge at all, does it pay its costs, and how sure is the direction?"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.config import SignalSettings
from tft_pipeline.contracts import DECISIONS, QUANTILES
from tft_pipeline.errors import ContractError

_P90_DEVIATIONS = 1.2815515655446004  # of a normal distribution, from its median to its 90th percentile
_FULL_WEIGHT_AT = 0.25  # P50 net of costs, in half bands, from which on the largest weight is taken

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Edge:
    """What a model showed before it was let near money: pinball skill over a baseline on the n windows of its validation.

    Early stopping looked at these windows, too, and skill may come from the width of the band alone: above zero is a necessary sign of
    an edge, not a proof of one.
    """

    skill: float
    baseline: str
    n: int

    @property
    def proven(self) -> bool:
        return self.n > 0 and self.skill > 0


def decide(quantiles: pd.DataFrame, edge: Edge, settings: SignalSettings, costs_round_trip: float) -> pd.DataFrame:
    """DECISIONS: one for each ticker and moment, at the decision horizon (the longest that is forecast, unless set).

    quantiles: QUANTILES of one model. costs_round_trip: log return that buying and selling again costs.
    BUY or SELL where the model has a proven edge, |P50| pays the costs, and the direction is at least as likely as
    minimum_confidence. Without allow_short, SELL closes what is held (weight 0). HOLD holds cash: weight 0, so it closes what an
    earlier decision opened.
    Weight: maximum_weight in full from where P50 net of costs is a quarter of the half band (P90-P10)/2, less in proportion.
    Confidence: probability of P50's direction under two half normals through the three quantiles.
    Raises ContractError when quantiles are of several models, or nothing is forecast at decision_horizon_hours.
    """
    if quantiles.empty:
        return DECISIONS.empty()
    if quantiles["model_id"].nunique() > 1:
        raise ContractError(
            f"{QUANTILES.name}: decisions were asked for from {sorted(quantiles['model_id'].unique())} at once. Decide for one model at a "
            "time, each by its own edge."
        )
    forecast = sorted(quantiles["horizon_hours"].unique().tolist())
    horizon = settings.decision_horizon_hours or forecast[-1]
    if horizon not in forecast:
        raise ContractError(
            f"{QUANTILES.name}: nothing is forecast {horizon} hours ahead, only {forecast}. Set TFT_SIGNALS_DECISION_HORIZON_HOURS to one "
            "of these, or train with TFT_TRAINING_HORIZON_HOURS that reach it."
        )
    rows = quantiles[quantiles["horizon_hours"] == horizon].sort_values(["ticker", "issued_at"], ignore_index=True)
    p10, p50, p90 = (rows[name].to_numpy(np.float64) for name in ("p10", "p50", "p90"))
    confidence = direction_probability(p10, p50, p90)
    net = np.maximum(np.abs(p50) - costs_round_trip, 0.0)
    half_band = np.maximum((p90 - p10) / 2, 1e-12)
    size = settings.maximum_weight * np.minimum(net / half_band / _FULL_WEIGHT_AT, 1.0)
    pays, sure = np.abs(p50) > costs_round_trip, confidence >= settings.minimum_confidence
    acts = pays & sure & edge.proven
    action = np.where(acts, np.where(p50 > 0, "BUY", "SELL"), "HOLD")
    weight = np.where(action == "BUY", size, np.where((action == "SELL") & settings.allow_short, -size, 0.0))
    reasons = [
        _reason(edge, settings, costs=costs_round_trip, horizon=horizon, p50=one, confidence=likely, pays=bool(pay))
        for one, likely, pay in zip(p50, confidence, pays, strict=True)
    ]
    return pd.DataFrame(
        {
            "ticker": rows["ticker"],
            "issued_at": rows["issued_at"],
            "model_id": rows["model_id"],
            "action": pd.Series(action, dtype="str"),
            "confidence": confidence,
            "weight": weight,
            "reason": pd.Series(reasons, dtype="str"),
            "horizon_hours": rows["horizon_hours"],
            "p10": p10,
            "p50": p50,
            "p90": p90,
        }
    )[DECISIONS.names]


def direction_probability(p10: Floats, p50: Floats, p90: Floats) -> Floats:
    """(n,) probability in 0.5…1 that the return has P50's sign; 0.5 where P50 is 0.

    Two half normals joined at the median P50, each with half the mass: the left as wide as P10 says, the right as P90 does. So 0 lies
    |P50| / width deviations from the middle on the side where it is. A band without width is sure.
    """
    width = np.where(p50 > 0, p50 - p10, p90 - p50) / _P90_DEVIATIONS
    deviations = np.abs(p50) / np.maximum(width, 1e-12)
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in deviations.tolist()])


def _reason(
    edge: Edge, settings: SignalSettings, *, costs: float, horizon: int, p50: float, confidence: float, pays: bool
) -> str:
    if edge.n == 0:
        return f"no model has been trained on what was known by then: only {edge.baseline} speaks, and it claims no direction"
    if not edge.proven:
        return f"no edge: validation skill {edge.skill:+.2%} against {edge.baseline} over {edge.n:,} windows"
    expects = f"P50 {p50:+.2%} over {horizon} h"
    if not pays:
        return f"{expects} does not pay {costs:.2%} of costs"
    moves = "rises" if p50 > 0 else "falls"
    if confidence < settings.minimum_confidence:
        return f"{expects}, but only {confidence:.1%} sure it {moves}; {settings.minimum_confidence:.1%} are asked for"
    held = "" if p50 > 0 or settings.allow_short else "; short selling is off, so what is held is sold"
    return f"{expects} pays {costs:.2%} of costs; {confidence:.0%} sure it {moves}{held}"


def summary(decisions: pd.DataFrame) -> dict[str, int]:
    """{action: how many tickers} of the newest moment."""
    newest = decisions[decisions["issued_at"] == decisions["issued_at"].max()]
    counts = newest["action"].value_counts()
    return {action: int(counts.get(action, 0)) for action in ("BUY", "SELL", "HOLD")}
