"""Which source the settings ask for.

What belongs here: the names of sources, and the checks that must come before any of them is asked. Each is imported
only when it is wanted, so that a simulated market never loads Yahoo's, Massive's or Reddit's client.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tft_pipeline.config import Settings
from tft_pipeline.contracts import TICKER_PATTERN
from tft_pipeline.errors import ConfigError, SourceError
from tft_pipeline.sources.protocols import BarSource, PostSource

if TYPE_CHECKING:
    from tft_pipeline.sources.simulated import SimulatedMarket

_TICKER = re.compile(TICKER_PATTERN.removesuffix("$"))


def open_bars(settings: Settings, *, until: datetime | None = None) -> BarSource:
    """The source of `settings.market`. until: the present of a simulated market; other sources know their own.

    Raises ConfigError for a ticker that cannot be one, SourceError for a folder that cannot be used or a ticker that it
    does not hold.
    """
    _check_tickers(settings.tickers)
    source = _bars(settings, until)
    offered = source.universe()
    for ticker in settings.tickers:
        if offered and ticker not in offered:
            raise SourceError(_unknown(source, ticker, offered))
    return source


def open_posts(settings: Settings, *, until: datetime | None = None) -> PostSource | None:
    """The source of `settings.posts`; None where it is `none`. Simulated posts share the world of open_bars."""
    _check_tickers(settings.tickers)
    if settings.posts == "none":
        return None
    if settings.posts == "simulated":
        return _simulated(settings, until).posts_source()
    if settings.posts.startswith("files:"):
        from tft_pipeline.sources.files import FilePosts

        return FilePosts(Path(settings.posts.removeprefix("files:")))
    from tft_pipeline.sources.reddit import RedditPosts

    return RedditPosts(settings)


def _bars(settings: Settings, until: datetime | None) -> BarSource:
    if settings.market == "simulated":
        return _simulated(settings, until).bars_source()
    if settings.market.startswith("files:"):
        from tft_pipeline.sources.files import FileBars

        return FileBars(Path(settings.market.removeprefix("files:")))
    if not settings.tickers:
        raise ConfigError(
            f"setting TFT_TICKERS: {settings.market.capitalize()} has no list of its own; "
            "name the tickers, such as TFT_TICKERS=AAPL,MSFT."
        )
    if settings.market == "massive":
        from tft_pipeline.sources.massive import MassiveBars

        return MassiveBars(settings)
    from tft_pipeline.sources.yahoo import YahooBars

    return YahooBars(settings)


def _simulated(settings: Settings, until: datetime | None) -> "SimulatedMarket":
    decides = Settings(
        home=settings.home,
        seed=settings.seed,
        calendar=settings.calendar,
        start=settings.start,
        simulation=settings.simulation,
    )
    return _world(decides, until)


@lru_cache(maxsize=2)
def _world(settings: Settings, until: datetime | None) -> "SimulatedMarket":
    """One world for one set of what decides it, however often and by whomever it is opened."""
    from tft_pipeline.sources.simulated import SimulatedMarket

    return SimulatedMarket(settings, until)


def _check_tickers(tickers: Sequence[str]) -> None:
    # A ticker becomes part of a request's path: `../../v1/evil` must end here (FAULTS 26).
    for ticker in tickers:
        if not _TICKER.fullmatch(ticker):
            raise ConfigError(
                f"setting TFT_TICKERS: {ticker!r} is no ticker; tickers are upper case and match {TICKER_PATTERN}, "
                "such as AAPL or BRK.B."
            )


def _unknown(source: BarSource, ticker: str, offered: Sequence[str]) -> str:
    from tft_pipeline.sources.files import FileBars

    remedy = " Set TFT_TICKERS to some of these, or leave it empty for all."
    if isinstance(source, FileBars):
        return source.unknown(ticker) + remedy
    shown = ", ".join(offered[:12]) + (f" … ({len(offered)} in all)" if len(offered) > 12 else "")
    return f"{source.name}: unknown ticker {ticker!r}; it offers {shown}.{remedy}"
