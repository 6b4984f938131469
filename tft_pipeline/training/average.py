"""The running mean of a network's weights (Polyak, Juditsky 1992): single steps jump about with the noise of prices."""

import copy

import torch

from tft_pipeline.training.model import ForecastNetwork

_MEMORY = 0.99  # each step counts this much less than the one after it: about the last hundred matter


class AveragedWeights:
    """network: a copy of the one that is trained, never in training mode, with the mean of its weights."""

    def __init__(self, trained: ForecastNetwork) -> None:
        self.network = copy.deepcopy(trained).eval().requires_grad_(False)
        self._steps = 0

    def update(self, trained: ForecastNetwork) -> None:
        """Takes in the weights after a step. The first steps soon outweigh what the network began with."""
        self._steps += 1
        kept = min(_MEMORY, self._steps / (self._steps + 9))
        with torch.no_grad():
            for mean, weight in zip(self.network.parameters(), trained.parameters(), strict=True):
                mean.lerp_(weight, 1 - kept)
