"""What scorers said of texts, so that none is scored twice by the same one."""

from collections.abc import Iterable

import pandas as pd

from tft_pipeline.errors import ContractError
from tft_pipeline.storage.database import Database

COLUMNS = ["text_hash", "bearish", "neutral", "bullish"]


def cached_scores(database: Database, hashes: Iterable[str], scorer: str) -> pd.DataFrame:
    """COLUMNS of those hashes that this scorer has scored, ordered by hash; hashes without a score are absent."""
    with database.connect() as connection:
        rows = connection.execute(
            """
            SELECT text_hash, bearish, neutral, bullish FROM sentiment.scores
            WHERE scorer = %s AND text_hash = ANY(%s) ORDER BY text_hash""",
            (scorer, sorted(set(hashes))),
        ).fetchall()
    return pd.DataFrame(rows, columns=COLUMNS).astype({"text_hash": "str", **dict.fromkeys(COLUMNS[1:], "float64")})


def save_scores(database: Database, scores: pd.DataFrame, scorer: str) -> int:
    """Keep scores (COLUMNS, probabilities) of this scorer; how many were new. A text that has a score keeps it.

    Raises ContractError: other columns; StorageError: a value that is no probability.
    """
    if sorted(scores.columns) != sorted(COLUMNS):
        raise ContractError(f"sentiment.scores: needs the columns {COLUMNS}; the frame has {list(scores.columns)}.")
    with database.connect() as connection:
        return connection.execute(
            """
            INSERT INTO sentiment.scores (text_hash, scorer, bearish, neutral, bullish)
            SELECT g.hash, %s, g.bearish, g.neutral, g.bullish
            FROM unnest(%s::text[], %s::float8[], %s::float8[], %s::float8[]) AS g (hash, bearish, neutral, bullish)
            ORDER BY g.hash ON CONFLICT DO NOTHING""",
            (scorer, *(scores[name].tolist() for name in COLUMNS)),
        ).rowcount
