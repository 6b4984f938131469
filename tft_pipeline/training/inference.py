"""Many windows through a network, always in batches of one size, so that a window's forecast is the same bits in any company."""

import numpy as np
import numpy.typing as npt
import torch

from tft_pipeline.training.calibration import Floats
from tft_pipeline.training.gather import Windows
from tft_pipeline.training.model import ForecastNetwork

# Matrix kernels add up in another order for another batch size, which moves the last bits. Within one size, neither the
# place in the batch nor the number of threads does: measured, and held by a test.
BATCH = 256


def quantiles_in_units(network: ForecastNetwork, windows: Windows, origins: npt.NDArray[np.int64]) -> Floats:
    """(n, H, 3) P10, P50, P90 in the model's units, fp32 arithmetic. The network is left in eval mode and without gradients."""
    # Torch multiplies in another order when a weight wants a gradient, even where none is taken: that moves the last bits too.
    network.eval().requires_grad_(False)
    n_batches = -(-len(origins) // BATCH)
    padded = np.resize(origins, n_batches * BATCH) if n_batches else origins
    parts = []
    with torch.inference_mode():
        for batch in torch.from_numpy(padded).to(windows.device).reshape(-1, BATCH):
            parts.append(network(*windows.inputs(batch)).cpu())
    if not parts:
        return np.zeros((0, 0, 3))
    quantiles: Floats = torch.cat(parts)[: len(origins)].numpy().astype(np.float64)
    return quantiles
