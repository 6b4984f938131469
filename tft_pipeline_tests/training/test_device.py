import logging

import pytest
import torch

from tft_pipeline.errors import ConfigError
from tft_pipeline.training import device
from tft_pipeline.training.device import place, seeded, threads


def test_without_a_gpu_it_says_so_and_is_the_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert place("auto").remark == "no GPU is at hand: the CPU is used"
    with caplog.at_level(logging.WARNING):
        assert place("cuda:1").device.type == "cpu"
    assert "TFT_TRAINING_DEVICE=cuda:1, but no GPU is at hand" in caplog.text
    assert place("cpu").remark is None


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16 autocast"), (False, "fp32")])
def test_mixed_precision_where_the_device_has_it(bf16: bool, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    assert place("auto").device == torch.device("cuda")
    assert place("auto").precision == precision
    assert place("cpu").precision == "fp32"


@pytest.mark.parametrize("wanted", ["gpu", "mps", "cuda:x", ""])
def test_another_word_for_a_device_is_refused(wanted: str) -> None:
    with pytest.raises(ConfigError, match="TFT_TRAINING_DEVICE"):
        place(wanted)


def test_autocast_leaves_the_cpu_alone() -> None:
    left, right = torch.ones(2, 2), torch.ones(2, 2)
    with place("cpu").mixed_precision():
        assert (left @ right).dtype == torch.float32
    with device.Place(torch.device("cpu"), torch.bfloat16).mixed_precision():
        assert (left @ right).dtype == torch.bfloat16


def test_a_small_network_takes_one_thread_and_a_large_one_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    before = torch.get_num_threads()
    with threads(16) as now:
        assert torch.get_num_threads() == now == 1
    with threads(64) as now:
        assert torch.get_num_threads() == now == 3
    assert torch.get_num_threads() == before


def test_the_callers_random_numbers_go_on_undisturbed() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(99, torch.device("cpu")) as generator:
        drawn = torch.rand(3, generator=generator)
    assert torch.equal(torch.rand(3), expected)
    with seeded(99, torch.device("cpu")) as generator:
        assert torch.equal(torch.rand(3, generator=generator), drawn)
