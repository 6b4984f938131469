"""From settings as given to settings that name their days, with every source looked at before anything is written anywhere."""

from datetime import timedelta

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.sources.opening import open_bars, open_posts
from tft_pipeline.sources.scorers import open_scorer


def settle(settings: Settings, *, remembering: bool = True) -> Settings:
    """settings with start, and for files also end, filled in; what was chosen is written to settings.json, unless not remembering.

    A simulated market begins so many days before it was first opened and lives on; live sources begin as far back as Yahoo reaches:
    both beginnings are remembered. Files begin and end where their bars do, which is looked up anew each time, for a folder may grow.
    """
    if settings.market.startswith("files:"):
        if settings.start is None or settings.end is None:
            span = open_bars(settings).span()
            if span is not None:
                last = (span.end - timedelta(microseconds=1)).date()
                settings = settings.changed(start=settings.start or span.start.date(), end=settings.end or last)
    elif settings.start is None:
        first = (
            config.today() - timedelta(days=settings.simulation.days) if settings.simulated else config.default_start()
        )
        settings = settings.changed(start=first)
    if remembering:
        settings.remember()
    return settings


def check_sources(settings: Settings) -> None:
    """Open everything that runs will read, so that what is wrong with it is said before a database is made or a choice remembered.

    Raises ConfigError or SourceError: an empty folder, a bad file, missing credentials, an unknown ticker or scorer.
    """
    open_bars(settings)
    open_posts(settings)
    open_scorer(settings.sentiment)
