"""Where torch computes: which device, in which precision, on how many threads, from which seed. State is put back afterwards."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tft_pipeline.errors import ConfigError

_log = logging.getLogger(__name__)
_LARGE, _MOST_THREADS = 64, 8  # hidden size from which threads pay; more of them gain nothing


@dataclass(frozen=True)
class Place:
    """device, and the type of autocast; None: everything stays fp32. remark: what was asked for and cannot be had."""

    device: torch.device
    autocast: torch.dtype | None
    remark: str | None = None

    @property
    def precision(self) -> str:
        return "bf16 autocast" if self.autocast else "fp32"

    def mixed_precision(self) -> contextlib.AbstractContextManager[Any]:
        """bf16 where the device has it: its range is fp32's, so gradients need no scaling. Weights stay fp32."""
        return torch.autocast(self.device.type, dtype=self.autocast) if self.autocast else contextlib.nullcontext()


def place(wanted: str) -> Place:
    """wanted: auto | cpu | cuda | cuda:N. Without a GPU it says so and is the CPU (FAULTS 38). Raises ConfigError for any other word."""
    if wanted != "auto":
        try:
            kind = torch.device(wanted).type
        except RuntimeError:
            kind = "?"
        if kind not in ("cpu", "cuda"):
            raise ConfigError(f"setting TFT_TRAINING_DEVICE: {wanted!r} is no device; use auto, cpu, cuda or cuda:N.")
        if kind == "cpu":
            return Place(torch.device("cpu"), None)
    if torch.cuda.is_available():
        device = torch.device("cuda" if wanted == "auto" else wanted)
        return Place(device, torch.bfloat16 if torch.cuda.is_bf16_supported() else None)
    remark = "no GPU is at hand: the CPU is used"
    if wanted != "auto":
        _log.warning("TFT_TRAINING_DEVICE=%s, but %s", wanted, remark)
    return Place(torch.device("cpu"), None, remark)


@contextlib.contextmanager
def threads(hidden_size: int) -> Iterator[int]:
    """One thread for a small network; for a large one as many cores as this process may use (torch counts the machine's).

    Threads wait for each other after each of the thousands of small kernels of a step. Hidden 16 on two idle cores: two threads
    train 1.5 times as fast as one; with a neighbour on one of the cores, 10 to 25 times slower, as every wait spins. One thread
    also makes the fit the same, bit for bit, whatever the number of cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    before, now = torch.get_num_threads(), 1 if hidden_size < _LARGE else min(cores, _MOST_THREADS)
    torch.set_num_threads(now)
    try:
        yield now
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[torch.Generator]:
    """Weights and dropout follow seed here, and the caller's random numbers go on as if nothing had happened.

    Yields a generator on the CPU for the order of windows.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)
