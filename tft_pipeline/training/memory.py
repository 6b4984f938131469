"""When memory runs out: recognise it, halve the batch, go on (FAULTS 38)."""

from collections.abc import Callable

import torch

from tft_pipeline.errors import TrainingError

SMALLEST_BATCH = 8


def out_of_memory(error: BaseException) -> bool:
    """Whether this is the device, or the machine, saying that memory ran out: torch has a class for the first only."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    signs = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def halved(batch_size: int, error: BaseException) -> int:
    """Half the batch. Raises TrainingError when that would be less than SMALLEST_BATCH."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if batch_size // 2 < SMALLEST_BATCH:
        raise TrainingError(
            f"memory ran out even with {batch_size} windows at a time ({error}). "
            "Lower TFT_TRAINING_HIDDEN_SIZE or TFT_TRAINING_ENCODER_BARS, or train on a device with more memory."
        ) from error
    return batch_size // 2


def fitting_batch_size(attempt: Callable[[int], None], wanted: int) -> int:
    """The largest of wanted, wanted/2, wanted/4 … for which attempt(batch_size) does not run out of memory.

    Raises TrainingError when none does; any other error passes as it is.
    """
    batch_size = wanted
    while True:
        try:
            attempt(batch_size)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            batch_size = halved(batch_size, error)
        else:
            return batch_size
