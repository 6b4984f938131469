"""Sizing, costs and the ledger: the same code in backtest and live. Pure."""
