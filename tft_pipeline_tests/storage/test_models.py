"""Which model was the newest at a moment, what it measured, and that damaged weights are never loaded."""

import hashlib
from datetime import UTC, date, datetime

import pandas as pd
import pytest

from tft_pipeline.contracts import MODELS
from tft_pipeline.errors import ArtifactError
from tft_pipeline.schema import UTC as UTC_DTYPE
from tft_pipeline.storage.models import latest_model_id, load_artifact
from tft_pipeline.storage.registry import model_exists, model_metrics, models_by
from tft_pipeline.storage.slices import write

JANUARY, FEBRUARY = datetime(2024, 1, 10, 23, tzinfo=UTC), datetime(2024, 2, 10, 23, tzinfo=UTC)
WEIGHTS = b"\x00weights\xff"


def models(*rows: tuple[str, datetime, str]) -> pd.DataFrame:
    """MODELS from (model_id, trained_as_of, fitted_at)."""
    made = {
        "model_id": pd.Series([row[0] for row in rows], dtype="str"),
        "trained_as_of": pd.Series([row[1] for row in rows], dtype=UTC_DTYPE),
        "fitted_at": pd.Series([pd.Timestamp(row[2], tz="UTC") for row in rows], dtype=UTC_DTYPE),
        "config": [{"hidden": 4}] * len(rows),
        "metrics": [{"loss": 0.25, "of": row[0]} for row in rows],
        "artifact": [WEIGHTS] * len(rows),
    }
    texts = {"data_fingerprint": "d", "code_version": "1", "sha256": hashlib.sha256(WEIGHTS).hexdigest()}
    return pd.DataFrame(made).assign(**texts).astype(dict.fromkeys(texts, "str"))[MODELS.names]


@pytest.fixture
def held(database):
    rows = models(("tft-b", JANUARY, "2024-03-01"), ("tft-a", JANUARY, "2024-03-02"), ("tft-c", FEBRUARY, "2024-02-11"))
    write(database, {MODELS: rows}, [date(2024, 1, 10), date(2024, 2, 10)], run_id="r", code_version="1")
    return database


def test_the_newest_is_that_which_knows_most_and_of_equals_the_last_fitted(held):
    assert latest_model_id(held) == "tft-c"
    assert latest_model_id(held, JANUARY) == "tft-a"
    assert latest_model_id(held, datetime(2024, 2, 10, tzinfo=UTC)) == "tft-a"
    assert latest_model_id(held, datetime(2024, 1, 1, tzinfo=UTC)) is None


def test_models_come_oldest_first_and_none_that_knows_the_moment_itself(held):
    assert models_by(held, before=datetime(2025, 1, 1, tzinfo=UTC))["model_id"].tolist() == ["tft-b", "tft-a", "tft-c"]
    assert models_by(held, before=FEBRUARY)["model_id"].tolist() == ["tft-b", "tft-a"]
    none = models_by(held, before=JANUARY)
    assert none.empty
    assert str(none["trained_as_of"].dtype) == UTC_DTYPE


def test_a_model_says_what_it_measured(held):
    assert model_exists(held, "tft-a")
    assert not model_exists(held, "tft-z")
    assert model_metrics(held, "tft-a") == {"loss": 0.25, "of": "tft-a"}
    with pytest.raises(ArtifactError, match="has no model 'tft-z'; train it, or name one that is there"):
        model_metrics(held, "tft-z")


def test_weights_come_back_to_the_last_byte_or_not_at_all(held):
    assert load_artifact(held, "tft-a") == WEIGHTS
    with held.connect() as connection:
        connection.execute("UPDATE training.models SET artifact = '\\x00'::bytea WHERE model_id = 'tft-a'")
    with pytest.raises(ArtifactError, match=r"the artifact of 'tft-a' is damaged: its SHA-256 is .* it is not loaded"):
        load_artifact(held, "tft-a")
    with pytest.raises(ArtifactError, match="has no model 'tft-z'"):
        load_artifact(held, "tft-z")
