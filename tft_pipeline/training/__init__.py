"""Windows, the Temporal Fusion Transformer, its fit and its artifacts. Torch lives here and in `forecasts`."""
