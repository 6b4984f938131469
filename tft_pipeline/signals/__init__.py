"""Quantiles to decisions: BUY, SELL or HOLD with a confidence, a reason and a target weight. Pure."""
