"""Scores of texts onto mentions of tickers. The model that scores is elsewhere; here its numbers become a mood."""

import pandas as pd

from tft_pipeline.contracts import MENTIONS
from tft_pipeline.errors import ContractError

MOODS = ["bearish", "neutral", "bullish"]


def unscored(found: pd.DataFrame, scores: pd.DataFrame) -> list[str]:
    """Hashes of the texts in found that scores lacks, sorted: what a scorer still has to read."""
    return sorted(set(found["text_hash"]) - set(scores["text_hash"]))


def mentions(found: pd.DataFrame, scores: pd.DataFrame, scorer_id: str) -> pd.DataFrame:
    """contracts.MENTIONS: what find_mentions found, each with the mood of its post's text.

    scores: text_hash, bearish, neutral, bullish; probabilities, one row a text; further rows are ignored. The label is the likeliest
    mood, its probability the confidence; of equals neutral wins, so that doubt is no mood.
    Raises ContractError: a text without a score, or with two.
    """
    if scores["text_hash"].duplicated().any():
        twice = scores.loc[scores["text_hash"].duplicated(), "text_hash"].iloc[0]
        raise ContractError(f"sentiment.scores: text {twice} has two scores of {scorer_id}; keep one row a text.")
    if missing := unscored(found, scores):
        raise ContractError(
            f"sentiment.scores: {len(missing)} texts have no score of {scorer_id}, first {missing[0]}; "
            "score what scoring.unscored names first."
        )
    frame = found.merge(scores[["text_hash", *MOODS]].astype({"text_hash": "str"}), on="text_hash", how="left")
    frame = frame.astype(dict.fromkeys(MOODS, "float64"))
    odds = frame[["neutral", "bearish", "bullish"]]  # in this order: of equals the first wins
    frame["label"] = odds.idxmax(axis=1).astype("str") if len(odds) else pd.Series(dtype="str")
    frame["confidence"] = odds.max(axis=1)
    frame["scorer"] = pd.Series(scorer_id, index=frame.index, dtype="str")
    ordered = frame.sort_values(list(MENTIONS.key), kind="stable", ignore_index=True)
    return ordered[MENTIONS.names]
