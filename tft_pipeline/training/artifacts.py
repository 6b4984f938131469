"""A trained model as bytes and back: one zip of safetensors weights and JSON, with its own SHA-256 at the end.

Layout: members model.json and weights.safetensors, stored uncompressed with fixed times, then the hex SHA-256 of everything
before it as the zip's comment. So the same model always gives the same bytes, and one flipped bit anywhere is noticed
before anything is parsed. Nothing here can run code: no pickle is written, none is read (FAULTS 35).
"""

import hashlib
import io
import json
import zipfile
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError

from tft_pipeline.config import TrainingSettings
from tft_pipeline.contracts import MODELS
from tft_pipeline.errors import ArtifactError
from tft_pipeline.training import model as network_module
from tft_pipeline.training.calibration import Calibration
from tft_pipeline.training.identity import config_of, planned_model_id
from tft_pipeline.training.scaling import Scaler
from tft_pipeline.training.trained import TrainedModel

FORMAT = 1
LARGEST = 1 << 30  # bytes
_JSON, _WEIGHTS = "model.json", "weights.safetensors"
_DIGEST = 64  # hex digits
_AGAIN = "Train the model again (tft-pipeline train), or restore it from a backup."
# How long a fit took differs every time: such figures go to training.models beside the artifact, not into its hash.
_OF_THE_RUN = ("seconds", "samples_per_second")

__all__ = ["dump", "load", "planned_model_id", "sha256_of", "to_row"]


def dump(model: TrainedModel) -> bytes:
    """The artifact. The same model gives the same bytes."""
    from safetensors.torch import save

    weights = save(network_module.weights_of(model.network))
    description = {
        "format": FORMAT,
        "model_id": model.model_id,
        "trained_as_of": model.trained_as_of.isoformat(),
        "seed": model.seed,
        "settings": model.settings.model_dump(mode="json"),
        "tickers": list(model.tickers),
        "observed": list(model.observed),
        "known": list(model.known),
        "observed_scaler": _plain(model.observed_scaler),
        "known_scaler": _plain(model.known_scaler),
        "calibration": {
            "median_share": model.calibration.median_share,
            "width_factors": model.calibration.width_factors.tolist(),
        },
        "data_fingerprint": model.data_fingerprint,
        "code_version": model.code_version,
        "metrics": {name: value for name, value in model.metrics.items() if name not in _OF_THE_RUN},
    }
    text = json.dumps(description, sort_keys=True, indent=1, allow_nan=False).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in ((_JSON, text), (_WEIGHTS, weights)):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o644 << 16
            archive.writestr(member, content)
        archive.comment = b"0" * _DIGEST
    body = buffer.getvalue()[:-_DIGEST]
    return body + sha256_of(body).encode()


def load(artifact: bytes, sha256: str | None = None) -> TrainedModel:
    """The model that dump wrote. sha256: what the artifact's hash must be, where it was recorded elsewhere.

    Raises ArtifactError for any damage, for members that do not belong there, and for a format this version does not know.
    """
    artifact = bytes(artifact)
    if sha256 is not None and sha256_of(artifact) != sha256:
        raise ArtifactError(
            f"model artifact: its SHA-256 is {sha256_of(artifact)}, but {sha256} was recorded. {_AGAIN}"
        )
    if not _DIGEST < len(artifact) <= LARGEST:
        raise ArtifactError(f"model artifact: {len(artifact)} bytes is no size for a model. {_AGAIN}")
    body, digest = artifact[:-_DIGEST], artifact[-_DIGEST:]
    if sha256_of(body).encode() != digest:
        raise ArtifactError(
            f"model artifact: the checksum at its end does not match its {len(artifact)} bytes: damaged. {_AGAIN}"
        )
    text, weights = _members(artifact)
    try:
        description = json.loads(text)
        found = description["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"model artifact: {_JSON} cannot be read ({error!r}). {_AGAIN}") from None
    if found != FORMAT:
        raise ArtifactError(
            f"model artifact: it has format {found!r}, this version reads {FORMAT}. "
            "Install the tft-pipeline that wrote it, or train the model again."
        )
    try:
        return _rebuilt(description, weights)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, ValidationError) as error:
        raise ArtifactError(f"model artifact: its parts do not fit together ({error!r}). {_AGAIN}") from None


def to_row(model: TrainedModel) -> pd.DataFrame:
    """contracts.MODELS, one row; config and metrics are dicts, which storage writes as JSON."""
    artifact = dump(model)
    row = {
        "model_id": pd.Series([model.model_id], dtype="str"),
        "trained_as_of": pd.Series([pd.Timestamp(model.trained_as_of).as_unit("us")]),
        "fitted_at": pd.Series([pd.Timestamp.now("UTC").as_unit("us")]),
        "config": pd.Series([config_of(model.settings, seed=model.seed)], dtype="object"),
        "metrics": pd.Series([model.metrics], dtype="object"),
        "data_fingerprint": pd.Series([model.data_fingerprint], dtype="str"),
        "code_version": pd.Series([model.code_version], dtype="str"),
        "sha256": pd.Series([sha256_of(artifact)], dtype="str"),
        "artifact": pd.Series([artifact], dtype="object"),
    }
    return pd.DataFrame(row)[MODELS.names]


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _members(artifact: bytes) -> tuple[bytes, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
            members = archive.infolist()
            if sorted(member.filename for member in members) != [_JSON, _WEIGHTS]:
                raise ArtifactError(
                    f"model artifact: it holds {[m.filename for m in members][:5]}; a model holds {_JSON} and {_WEIGHTS} only. {_AGAIN}"
                )
            # Uncompressed members cannot unpack to more than the artifact's own size.
            if any(m.compress_type != zipfile.ZIP_STORED or m.file_size > len(artifact) for m in members):
                raise ArtifactError(f"model artifact: a member is compressed, which dump never does. {_AGAIN}")
            return archive.read(_JSON), archive.read(_WEIGHTS)
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ArtifactError(f"model artifact: it is no readable zip ({error}). {_AGAIN}") from None


def _rebuilt(description: dict[str, Any], weights: bytes) -> TrainedModel:
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    settings = TrainingSettings(**description["settings"])
    tickers, observed, known = (tuple(map(str, description[name])) for name in ("tickers", "observed", "known"))
    with torch.random.fork_rng(devices=[]):
        network = network_module.build(settings, observed=observed, known=known, n_tickers=len(tickers))
    try:
        tensors = load_tensors(weights)
    except SafetensorError as error:
        raise ArtifactError(f"model artifact: {_WEIGHTS} cannot be read ({error}). {_AGAIN}") from None
    _put(tensors, network)
    scalers = [
        _scaler(description[name], len(names))
        for name, names in (("observed_scaler", observed), ("known_scaler", known))
    ]
    calibration = _calibration(description["calibration"], settings.horizon_hours)
    trained_as_of = datetime.fromisoformat(description["trained_as_of"])
    if trained_as_of.tzinfo is None:
        raise ValueError("trained_as_of has no time zone")
    return TrainedModel(
        model_id=str(description["model_id"]),
        trained_as_of=trained_as_of,
        settings=settings,
        seed=int(description["seed"]),
        tickers=tickers,
        observed=observed,
        known=known,
        observed_scaler=scalers[0],
        known_scaler=scalers[1],
        calibration=calibration,
        network=network.eval().requires_grad_(False),
        data_fingerprint=str(description["data_fingerprint"]),
        code_version=str(description["code_version"]),
        metrics=dict(description["metrics"]),
    )


def _put(tensors: dict[str, torch.Tensor], network: torch.nn.Module) -> None:
    """Copies tensors into network: each parameter once, same names, same shapes, finite fp32."""
    parameters = dict(network.named_parameters())
    if set(tensors) != set(parameters):
        odd = sorted(set(tensors) ^ set(parameters))
        raise ValueError(f"{len(odd)} weights are missing or unknown, first {odd[0]!r}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            value = tensors[name]
            if value.shape != parameter.shape or value.dtype != torch.float32 or not bool(torch.isfinite(value).all()):
                raise ValueError(f"weight {name!r} has shape {tuple(value.shape)}, {value.dtype}, or is not finite")
            parameter.copy_(value)


def _calibration(plain: dict[str, Any], horizon_hours: int) -> Calibration:
    share, factors = float(plain["median_share"]), np.array(plain["width_factors"], dtype=np.float64)
    if factors.shape != (horizon_hours,) or not (np.isfinite(factors) & (factors > 0)).all() or not 0 <= share <= 1:
        raise ValueError(f"calibration {plain} does not fit a horizon of {horizon_hours}")
    return Calibration(share, factors)


def _plain(scaler: Scaler) -> dict[str, list[Any]]:
    return {name: getattr(scaler, name).tolist() for name in ("center", "spread", "logarithmic")}


def _scaler(plain: dict[str, list[Any]], n_variables: int) -> Scaler:
    center, spread = (np.array(plain[name], dtype=np.float64) for name in ("center", "spread"))
    logarithmic = np.array(plain["logarithmic"], dtype=np.bool_)
    whole = center.shape == spread.shape == logarithmic.shape == (n_variables,)
    if not whole or not np.isfinite([center, spread]).all() or (spread <= 0).any():
        raise ValueError(f"a scaler does not fit {n_variables} variables")
    return Scaler(center, spread, logarithmic)
