"""Artifacts: the same bytes for the same model, the same model from the bytes, and nothing from damaged ones (FAULTS 35)."""

import dataclasses
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tft_pipeline import contracts, schema
from tft_pipeline.errors import ArtifactError
from tft_pipeline.training.artifacts import dump, load, sha256_of, to_row
from tft_pipeline.training.model import weights_of
from tft_pipeline.training.trained import TrainedModel


@pytest.fixture(scope="module")
def artifact(model: TrainedModel) -> bytes:
    return dump(model)


def resealed(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of members with a correct checksum at its end: what only somebody who knows the format would write."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = b"0" * 64
    body = buffer.getvalue()[:-64]
    return body + sha256_of(body).encode()


def members_of(artifact: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_description(artifact: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    members = members_of(artifact)
    description = json.loads(members["model.json"])
    change(description)
    return resealed({**members, "model.json": json.dumps(description).encode()})


def test_comes_back_bit_for_bit(model: TrainedModel, artifact: bytes) -> None:
    back = load(artifact, sha256_of(artifact))
    before, after = weights_of(model.network), weights_of(back.network)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for field in dataclasses.fields(TrainedModel):
        if field.name not in ("network", "observed_scaler", "known_scaler", "calibration", "metrics"):
            assert getattr(back, field.name) == getattr(model, field.name), field.name
    assert back.calibration.median_share == model.calibration.median_share
    np.testing.assert_array_equal(back.calibration.width_factors, model.calibration.width_factors)
    np.testing.assert_array_equal(back.observed_scaler.spread, model.observed_scaler.spread)
    assert back.metrics == {k: v for k, v in model.metrics.items() if k not in ("seconds", "samples_per_second")}
    assert dump(back) == artifact
    assert not back.network.training


def test_loading_draws_no_random_numbers(artifact: bytes) -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    load(artifact)
    assert torch.equal(torch.rand(2), expected)


def test_the_row_keeps_the_contract(model: TrainedModel, artifact: bytes) -> None:
    row = schema.validate(to_row(model), contracts.MODELS)
    assert bytes(row["artifact"][0]) == artifact
    assert row["sha256"][0] == sha256_of(artifact)
    assert row["metrics"][0]["seconds"] > 0
    assert json.loads(json.dumps(row["config"][0], allow_nan=False)) == row["config"][0]
    assert "secret" not in json.dumps(row["config"][0])


def test_every_flipped_bit_and_every_cut_is_refused(artifact: bytes) -> None:
    random = np.random.default_rng(0)
    places = [
        0,
        1,
        30,
        len(artifact) - 1,
        len(artifact) - 64,
        len(artifact) - 65,
        *random.integers(0, len(artifact), 150),
    ]
    for place in places:
        damaged = bytearray(artifact)
        damaged[place] ^= 1 << int(random.integers(8))
        with pytest.raises(ArtifactError, match="damaged"):
            load(bytes(damaged))
    for length in [0, 1, 63, 64, 65, len(artifact) - 1, *random.integers(0, len(artifact), 60)]:
        with pytest.raises(ArtifactError, match=r"damaged|no size"):
            load(artifact[:length])
    with pytest.raises(ArtifactError):
        load(artifact + b"\0")


def test_another_hash_than_recorded_is_refused(artifact: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"was recorded\. Train the model again"):
        load(artifact, "0" * 64)


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


def test_a_pickle_never_runs(artifact: bytes, tmp_path: Path) -> None:
    file = tmp_path / "executed"
    payload = pickle.dumps(Payload(file))
    members = members_of(artifact)
    buffer = io.BytesIO()
    torch.save({"weights": Payload(file)}, buffer)
    for attack in (
        payload,
        buffer.getvalue(),
        resealed({**members, "weights.safetensors": payload}),
        resealed({**members, "weights.safetensors": buffer.getvalue()}),
        resealed({**members, "model.json": payload}),
        resealed({**members, "data.pkl": payload}),
        resealed({"archive/data.pkl": payload}),
    ):
        with pytest.raises(ArtifactError):
            load(attack)
    assert not file.exists()
    pickle.loads(payload)  # noqa: S301  the payload is live
    assert file.exists()


def test_a_zip_bomb_is_refused_unopened(artifact: bytes) -> None:
    members = {**members_of(artifact), "weights.safetensors": bytes(50_000_000)}
    with pytest.raises(ArtifactError, match="a member is compressed"):
        load(resealed(members, zipfile.ZIP_DEFLATED))


def test_members_that_do_not_belong_are_refused(artifact: bytes) -> None:
    members = members_of(artifact)
    for wrong in ({**members, "../../etc/cron.d/x": b"x"}, {"model.json": members["model.json"]}, {}):
        with pytest.raises(ArtifactError, match=r"a model holds model\.json and weights\.safetensors only"):
            load(resealed(wrong))


def test_what_is_no_zip_is_refused() -> None:
    body = b"PK\x03\x04 not a zip at all"
    with pytest.raises(ArtifactError, match="no readable zip"):
        load(body + sha256_of(body).encode())


def test_a_format_of_the_future_is_refused_with_its_number(artifact: bytes) -> None:
    with pytest.raises(
        ArtifactError, match=r"it has format 2, this version reads 1. Install the tft-pipeline that wrote it"
    ):
        load(with_description(artifact, lambda d: d.update(format=2)))


def _cut_scaler(d: dict[str, Any]) -> None:
    d["observed_scaler"]["center"].pop()


def _flat_scaler(d: dict[str, Any]) -> None:
    d["known_scaler"]["spread"][0] = 0.0


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("tickers"),
        lambda d: d["tickers"].append("NEW"),
        lambda d: d["observed"].append("macd"),
        lambda d: d["settings"].update(hidden_size=8),
        lambda d: d["settings"].update(hidden_size=10**9),
        lambda d: d["settings"].update(unheard_of=1),
        lambda d: d["calibration"].update(width_factors=[1.0]),
        lambda d: d["calibration"].update(width_factors=[1.0, -1.0, 1.0]),
        lambda d: d["calibration"].update(median_share=1.5),
        lambda d: d.update(trained_as_of="2024-01-01T00:00:00"),
        lambda d: d.update(trained_as_of="yesterday"),
        lambda d: d.update(seed="x"),
        lambda d: d.update(settings=None),
        _cut_scaler,
        _flat_scaler,
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_together_are_refused(change: Callable[[dict[str, Any]], None], artifact: bytes) -> None:
    with pytest.raises(ArtifactError, match="do not fit together"):
        load(with_description(artifact, change))


@pytest.mark.parametrize("content", [b"[]", b"null", b"{", b"{}", b"\xff"])
def test_a_description_that_is_none_is_refused(content: bytes, artifact: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"model\.json cannot be read"):
        load(resealed({**members_of(artifact), "model.json": content}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, model: TrainedModel, artifact: bytes) -> None:
    from safetensors.torch import save

    weights = weights_of(model.network)
    name = next(iter(weights))
    weights[name].view(-1)[0] = value
    with pytest.raises(ArtifactError, match="is not finite"):
        load(resealed({**members_of(artifact), "weights.safetensors": save(weights)}))
