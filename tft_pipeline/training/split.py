"""The history cut in two by time, with a gap as long as the horizon between: no return is seen from both sides."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tft_pipeline.errors import TrainingError
from tft_pipeline.training.windows import Panel

FEWEST_TRAINING = 32  # windows: below this a fit learns nothing but noise
MOST_VALIDATION = 20_000  # windows scored after an epoch; beyond, every k-th serves


@dataclass(frozen=True)
class Split:
    """Origins are ticker * n_bars + bar. validation_begins: the first bar whose origins are validation."""

    training: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    validation_begins: int


def split_by_time(panel: Panel, *, encoder_bars: int, horizon_hours: int, validation_share: float) -> Split:
    """The newest validation_share of the bars with windows is validation; training windows end their targets before it.

    A validation window's encoder may reach back into the training part, never the other way round.
    Raises TrainingError when either side would be empty, saying how long the history is and how long it must be.
    """
    usable = panel.learnable(encoder_bars, horizon_hours)
    bars = np.flatnonzero(usable.any(axis=0))
    if len(bars):
        first = int(bars[min(int((1 - validation_share) * len(bars)), len(bars) - 1)])
        before, after = usable.copy(), usable.copy()
        before[:, max(first - horizon_hours, 0) :] = False
        after[:, :first] = False
        training, validation = _origins(before), _origins(after)
        if len(training) >= FEWEST_TRAINING and len(validation):
            return Split(training, validation[:: -(-len(validation) // MOST_VALIDATION)], first)
    held = int(panel.held.sum(axis=1).max(initial=0))
    raise TrainingError(
        f"too little history to train on: {len(panel.tickers)} ticker(s), at most {held} bars each, "
        f"{len(bars)} bars that may begin a window of {encoder_bars} bars with {horizon_hours} after it. "
        f"Load more history, or lower TFT_TRAINING_ENCODER_BARS and TFT_TRAINING_HORIZON_HOURS."
    )


def _origins(allowed: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return np.flatnonzero(allowed.ravel()).astype(np.int64)
