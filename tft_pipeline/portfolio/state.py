"""A portfolio at a mark, and how it is rebuilt from what the database holds of that mark."""

from dataclasses import dataclass, field

import pandas as pd

from tft_pipeline.config import PortfolioSettings


@dataclass(frozen=True)
class State:
    """All that the next bar needs to know of the past, apart from decisions issued at the mark."""

    cash_cents: int
    equity_cents: int
    peak_cents: int
    quantities: dict[str, int] = field(default_factory=dict)  # signed shares, never 0
    prices: dict[str, float] = field(default_factory=dict)  # last close of what is held, dollars as traded
    marked_at: pd.Timestamp | None = None  # None: nothing was marked yet

    @classmethod
    def opening(cls, settings: PortfolioSettings) -> "State":
        """Cash and nothing else."""
        cash = round(settings.initial_cash_usd * 100)
        return cls(cash, cash, cash)

    @classmethod
    def from_rows(cls, positions: pd.DataFrame, equity: pd.DataFrame, peak_equity_cents: int) -> "State":
        """The state at a mark. positions: POSITIONS of it, maybe none. equity: its one EQUITY row. peak: of all marks so far."""
        row = equity.to_dict("records")[0]
        # The opening cash may be a peak that no mark shows; the drawdown remembers it, exactly unless all is nearly lost.
        remembered = round(row["equity_cents"] / (1 + row["drawdown"])) if row["drawdown"] > -0.9 else 0
        return cls(
            cash_cents=int(row["cash_cents"]),
            equity_cents=int(row["equity_cents"]),
            peak_cents=max(int(peak_equity_cents), remembered),
            quantities=dict(zip(positions["ticker"].tolist(), positions["quantity"].tolist(), strict=True)),
            prices=dict(zip(positions["ticker"].tolist(), positions["price"].tolist(), strict=True)),
            marked_at=row["marked_at"],
        )
