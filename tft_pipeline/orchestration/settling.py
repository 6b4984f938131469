"""From settings as given to settings that name their days: where history begins is asked of the source once, then remembered."""

from datetime import timedelta

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.sources.opening import open_bars


def settle(settings: Settings) -> Settings:
    """settings with start, and for files also end, filled in and written to settings.json when they were not.

    A simulated market begins so many days before it was first opened and lives on; files begin and end where their bars do;
    live sources begin as far back as Yahoo reaches.
    """
    if settings.market.startswith("files:") and (settings.start is None or settings.end is None):
        span = open_bars(settings).span()
        if span is not None:
            last = (span.end - timedelta(microseconds=1)).date()
            settled = settings.changed(start=settings.start or span.start.date(), end=settings.end or last)
            settled.remember()
            return settled
    if settings.start is None:
        first = (
            config.today() - timedelta(days=settings.simulation.days) if settings.simulated else config.default_start()
        )
        settings = settings.changed(start=first)
        settings.remember()
    return settings
