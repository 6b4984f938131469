"""Trained models: which one was the newest at a moment, and its artifact, checked."""

import hashlib
from datetime import datetime

from tft_pipeline.errors import ArtifactError
from tft_pipeline.storage.database import Database


def latest_model_id(database: Database, as_of: datetime | None = None) -> str | None:
    """The model with the latest trained_as_of <= as_of (None: of all); None when there is none yet."""
    with database.connect() as connection:
        row = connection.execute(
            """
            SELECT model_id FROM training.models WHERE %(as_of)s::timestamptz IS NULL OR trained_as_of <= %(as_of)s
            ORDER BY trained_as_of DESC, fitted_at DESC, model_id DESC LIMIT 1""",
            {"as_of": as_of},
        ).fetchone()
    return str(row[0]) if row else None


def load_artifact(database: Database, model_id: str) -> bytes:
    """The model's file, as it was stored. Raises ArtifactError: no such model, or the bytes are not those that were stored."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT artifact, sha256 FROM training.models WHERE model_id = %s ORDER BY trained_as_of DESC LIMIT 1",
            (model_id,),
        ).fetchone()
    if row is None:
        raise ArtifactError(f"training.models has no model {model_id!r}; train it, or name one that is there.")
    artifact, recorded = bytes(row[0]), row[1]
    found = hashlib.sha256(artifact).hexdigest()
    if found != recorded:
        raise ArtifactError(
            f"training.models: the artifact of {model_id!r} is damaged: its SHA-256 is {found[:12]}…, recorded is {recorded[:12]}…. "
            "Restore it from a backup or train again; it is not loaded."
        )
    return artifact
