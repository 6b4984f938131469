"""A model's name, known before it is trained: the same data, settings and seed give the same name, so a fit can be skipped."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from tft_pipeline.config import TrainingSettings
from tft_pipeline.contracts import KNOWN_FEATURES, OBSERVED_FEATURES
from tft_pipeline.errors import ConfigError, LeakageError
from tft_pipeline.training.windows import EWMA, SCALE

# Raise it when the same settings and data would train another model: then no stored model passes for the new one.
RECIPE = 1

# In a history of a year or two the month only says when it was: a model would learn dates by heart.
_UNREAD = ("month_sin", "month_cos")

_OBSERVED = tuple(column.name for column in OBSERVED_FEATURES)
_KNOWN = tuple(column.name for column in KNOWN_FEATURES)


def variables(settings: TrainingSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(observed, known) features that the model reads, in the order of the contract.

    Raises ConfigError naming an input that is no feature, or when none of a kind is left.
    """
    chosen = settings.inputs or tuple(name for name in (*_OBSERVED, *_KNOWN) if name not in _UNREAD)
    unknown = sorted(set(chosen) - {*_OBSERVED, *_KNOWN})
    if unknown:
        raise ConfigError(
            f"setting TFT_TRAINING_INPUTS: {unknown[0]!r} is no feature. Choose from {', '.join((*_OBSERVED, *_KNOWN))}."
        )
    observed = tuple(name for name in _OBSERVED if name in chosen)
    known = tuple(name for name in _KNOWN if name in chosen)
    if not observed or not known:
        raise ConfigError("setting TFT_TRAINING_INPUTS: name at least one observed and one calendar feature.")
    return observed, known


def utc(moment: datetime, name: str) -> datetime:
    """moment in UTC. Raises LeakageError without a time zone: then nobody can say what came before it."""
    if moment.tzinfo is None:
        raise LeakageError(
            f"{name}={moment.isoformat()} has no time zone, so what was known by then is not defined. Give UTC."
        )
    return pd.Timestamp(moment).to_pydatetime(warn=False).astimezone(UTC)


def data_fingerprint(features: pd.DataFrame, settings: TrainingSettings) -> str:
    """SHA-256, hex, of what a fit reads of features (contracts.FEATURES), in whatever order its rows come."""
    observed, known = variables(settings)
    columns = ["log_price", SCALE, EWMA, *observed, *known]
    rows = features[["ticker", "bar_end", *columns]].sort_values(["ticker", "bar_end"], kind="stable")
    digest = hashlib.sha256(json.dumps([len(rows), columns]).encode())
    digest.update("\n".join(rows["ticker"]).encode())
    digest.update(rows["bar_end"].dt.as_unit("us").astype("int64").to_numpy().tobytes())
    digest.update(rows[columns].to_numpy(dtype="float64").tobytes())
    return digest.hexdigest()


def config_of(settings: TrainingSettings, *, seed: int) -> dict[str, Any]:
    """Everything but the data that decides what is trained. The device is left out: it decides only where."""
    observed, known = variables(settings)
    chosen = settings.model_dump(mode="json", exclude={"device", "inputs"})
    return {"recipe": RECIPE, "seed": seed, "observed": list(observed), "known": list(known), "settings": chosen}


def planned_model_id(features: pd.DataFrame, settings: TrainingSettings, *, seed: int, trained_as_of: datetime) -> str:
    """`tft-<yyyymmdd>-<12 hex>`: the name that fit would give, without training."""
    return model_id_of(data_fingerprint(features, settings), config_of(settings, seed=seed), trained_as_of)


def model_id_of(fingerprint: str, config: dict[str, Any], trained_as_of: datetime) -> str:
    text = json.dumps([config, fingerprint, utc(trained_as_of, "trained_as_of").isoformat()], sort_keys=True)
    return f"tft-{utc(trained_as_of, 'trained_as_of'):%Y%m%d}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
