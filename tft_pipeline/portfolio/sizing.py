"""From target weights to whole shares, within what the portfolio is worth."""

from collections.abc import Mapping


def capped(targets: Mapping[str, float], kept: Mapping[str, float], *, limit: float = 1.0) -> dict[str, float]:
    """targets scaled down so that with the weights kept their absolute sum is at most limit.

    targets: signed weights decided now. kept: signed weights of positions about which nothing was decided.
    """
    room = max(limit - sum(abs(weight) for weight in kept.values()), 0.0)
    asked = sum(abs(weight) for weight in targets.values())
    scale = min(1.0, room / asked) if asked > 0 else 1.0
    return {ticker: weight * scale for ticker, weight in targets.items()}


def shares(weight: float, equity_cents: int, price: float) -> int:
    """Whole shares, toward zero, of weight × equity at price dollars."""
    return int(weight * equity_cents / (price * 100))
