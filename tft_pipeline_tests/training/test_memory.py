import pytest
import torch

from tft_pipeline.errors import TrainingError
from tft_pipeline.training.memory import fitting_batch_size, out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to …"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8000000000 bytes."),
    ],
)
def test_the_batch_is_halved_until_it_fits(error: BaseException) -> None:
    tried = []

    def attempt(batch_size: int) -> None:
        tried.append(batch_size)
        if batch_size > 60:
            raise error

    assert fitting_batch_size(attempt, 400) == 50
    assert tried == [400, 200, 100, 50]


def test_real_memory_that_runs_out_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert out_of_memory(caught.value)


def test_another_error_passes() -> None:
    def attempt(batch_size: int) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        fitting_batch_size(attempt, 64)


def test_no_memory_at_all_says_what_to_lower() -> None:
    def attempt(batch_size: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(TrainingError, match=r"memory ran out even with 8 windows at a time.*TFT_TRAINING_HIDDEN_SIZE"):
        fitting_batch_size(attempt, 64)
