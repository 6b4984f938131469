"""Quantile forecasts, the baselines they must beat, and their scores once the future has come."""
