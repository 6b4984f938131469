"""Posts and mentions for the tests of this folder: small frames by contract."""

import pandas as pd

from tft_pipeline.contracts import MENTIONS, POSTS
from tft_pipeline.schema import UTC, validate
from tft_pipeline.sentiment.cleaning import clean, text_hash


def posts_of(*texts: str) -> pd.DataFrame:
    """One post a text, p0, p1 …, an hour apart, known two minutes after."""
    frame = POSTS.empty()
    if texts:
        created = pd.date_range("2024-03-04 14:00", periods=len(texts), freq="h", tz="UTC")
        frame = pd.DataFrame(
            {
                "channel": "wallstreetbets",
                "post_id": [f"p{i}" for i in range(len(texts))],
                "created_at": created,
                "text": list(texts),
                "score": 1,
                "text_hash": [text_hash(clean(text)) for text in texts],
                "source": "test",
                "known_at": created + pd.Timedelta(minutes=2),
            }
        ).astype({"created_at": UTC, "known_at": UTC})
    return validate(frame, POSTS)


def mentions_of(*rows: tuple[str, str, str, float]) -> pd.DataFrame:
    """(ticker, known_at, label, confidence) each; created a minute before."""
    known = pd.to_datetime([row[1] for row in rows], utc=True, format="ISO8601")
    mood = {"bearish": (1.0, 0.0, 0.0), "neutral": (0.0, 1.0, 0.0), "bullish": (0.0, 0.0, 1.0)}
    frame = pd.DataFrame(
        {
            "channel": "wallstreetbets",
            "post_id": [f"p{i}" for i in range(len(rows))],
            "created_at": known - pd.Timedelta(minutes=1),
            "known_at": known,
            "ticker": [row[0] for row in rows],
            "method": "cashtag",
            "label": [row[2] for row in rows],
            "bearish": [mood[row[2]][0] for row in rows],
            "neutral": [mood[row[2]][1] for row in rows],
            "bullish": [mood[row[2]][2] for row in rows],
            "confidence": [row[3] for row in rows],
            "scorer": "test",
        }
    ).astype({"created_at": UTC, "known_at": UTC})
    return validate(frame, MENTIONS)
