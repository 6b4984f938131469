"""Which models there are, since when, and what they measured of themselves; their weights are fetched by `models`."""

from datetime import datetime
from typing import Any

import pandas as pd

from tft_pipeline.errors import ArtifactError
from tft_pipeline.schema import UTC
from tft_pipeline.storage.database import Database


def models_by(database: Database, *, before: datetime) -> pd.DataFrame:
    """model_id, trained_as_of of every model trained with nothing later than before; oldest first, of one moment the last fitted last."""
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT model_id, trained_as_of FROM training.models WHERE trained_as_of < %s ORDER BY trained_as_of, fitted_at, model_id",
            (before,),
        ).fetchall()
    return pd.DataFrame(rows, columns=["model_id", "trained_as_of"]).astype({"model_id": "str", "trained_as_of": UTC})


def model_exists(database: Database, model_id: str) -> bool:
    with database.connect() as connection:
        return (
            connection.execute("SELECT 1 FROM training.models WHERE model_id = %s", (model_id,)).fetchone() is not None
        )


def model_metrics(database: Database, model_id: str) -> dict[str, Any]:
    """What its fit measured. Raises ArtifactError for a model that is not there."""
    with database.connect() as connection:
        row = connection.execute("SELECT metrics FROM training.models WHERE model_id = %s", (model_id,)).fetchone()
    if row is None:
        raise ArtifactError(f"training.models has no model {model_id!r}; train it, or name one that is there.")
    metrics: dict[str, Any] = row[0]
    return metrics
