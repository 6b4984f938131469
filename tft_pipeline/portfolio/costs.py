"""What trading costs: half the spread and a fee a share, on every fill."""

from tft_pipeline.config import PortfolioSettings

_SHARE_USD = 50.0  # the fee a share weighs by price; decisions are made before the price of the fill is known, so one stands for all


def fill_cost_cents(quantity: int, price: float, settings: PortfolioSettings) -> int:
    """Cents for a fill of signed quantity shares at price dollars."""
    spread = abs(quantity) * price * 100 * settings.half_spread_bps / 10_000
    return round(spread + abs(quantity) * settings.fee_usd_per_share * 100)


def affordable(cash_cents: int, price: float, settings: PortfolioSettings) -> int:
    """The most whole shares at price dollars that cash pays for, costs included; 0 without cash."""
    each = price * 100 * (1 + settings.half_spread_bps / 10_000) + settings.fee_usd_per_share * 100
    most = max(int(cash_cents / each), 0)
    while most and round(most * price * 100) + fill_cost_cents(most, price, settings) > cash_cents:
        most -= 1  # price and cost are each rounded to the cent, maybe both upward
    return most


def round_trip_log_return(settings: PortfolioSettings) -> float:
    """What buying and selling again takes off a log return, for a share of 50 dollars (to first order: costs are far below 1)."""
    return 2 * (settings.half_spread_bps / 10_000 + settings.fee_usd_per_share / _SHARE_USD)
