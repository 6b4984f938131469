"""Windows gathered from arrays that already lie on the device. No Python runs per sample."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tft_pipeline.training.scaling import Scaler
from tft_pipeline.training.windows import Panel

UNKNOWN = 0  # the embedding of tickers that the model was not trained on


def ticker_codes(panel: Panel, trained: Sequence[str]) -> npt.NDArray[np.int64]:
    """(n_tickers,) 1 + place among the trained tickers; UNKNOWN for others."""
    places: Mapping[str, int] = {ticker: 1 + i for i, ticker in enumerate(trained)}
    return np.array([places.get(ticker, UNKNOWN) for ticker in panel.tickers], dtype=np.int64)


class Windows:
    """A panel, scaled, on a device. An origin is one number: ticker * n_bars + bar.

    V observed and K known variables, E encoder bars, H horizon.
    """

    def __init__(
        self,
        panel: Panel,
        observed: Scaler,
        known: Scaler,
        codes: npt.NDArray[np.int64],
        *,
        encoder_bars: int,
        horizon_hours: int,
        device: torch.device,
    ) -> None:
        n_tickers, self.n_bars = panel.held.shape
        rows = n_tickers * self.n_bars

        def on_device(array: npt.NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        self.device = device
        self._observed = on_device(observed.apply(panel.observed).reshape(rows, panel.observed.shape[2]))  # (T*N, V)
        self._known = on_device(known.apply(panel.known))  # (N, K)
        self._newest_held = on_device(panel.newest_held().reshape(rows))  # (T*N,)
        self._codes = on_device(codes)  # (T,)
        self._index = on_device(panel.price_index.reshape(rows))  # (T*N,) float64
        self._scale = on_device(panel.scale.reshape(rows))  # (T*N,) float64
        self._ewma = on_device(panel.volatility_ewma.reshape(rows))  # (T*N,) float64
        self._past = torch.arange(1 - encoder_bars, 1, device=device)  # (E,)
        self._ahead = torch.arange(1, horizon_hours + 1, device=device)  # (H,)
        self._root = self._ahead.to(torch.float64).sqrt()  # (H,)

    def inputs(self, origins: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """origins (B,) -> encoder (B, E, V + K), decoder (B, H, K), ticker code (B,).

        A bar that is not held repeats the newest held one within the window; before the first of these it is the mean, 0.
        Nothing before the window's first bar is read, so a window is the same however much history lies around it.
        """
        bar = origins % self.n_bars  # (B,)
        base = (origins - bar)[:, None]  # (B, 1) row of the ticker's first bar
        past = bar[:, None] + self._past  # (B, E)
        source = self._newest_held[base + past]  # (B, E)
        inside = source >= past[:, :1]
        filled = self._observed[base + source.clamp(min=0)] * inside[..., None]  # (B, E, V)
        encoder = torch.cat([filled, self._known[past]], dim=2)
        decoder = self._known[bar[:, None] + self._ahead]
        return encoder, decoder, self._codes[origins // self.n_bars]

    def log_returns(self, origins: Tensor) -> Tensor:
        """(B, H) float64 from each origin to each bar ahead."""
        return self._index[origins[:, None] + self._ahead] - self._index[origins][:, None]

    def units(self, origins: Tensor) -> Tensor:
        """(B, H) float64 log return that is 1 in the model's units: volatility_35h * sqrt(h)."""
        return self._scale[origins][:, None] * self._root

    def targets(self, origins: Tensor) -> Tensor:
        """(B, H) float32 in the model's units (windows.py)."""
        return (self.log_returns(origins) / self.units(origins)).float()

    def ewma(self, origins: Tensor) -> Tensor:
        """(B,) float64 volatility_ewma at the origin, per √hour."""
        return self._ewma[origins]
