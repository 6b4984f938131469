"""A run over many days must give each day what it would have got alone: nothing that was learned after it."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise

from tft_pipeline import config
from tft_pipeline.orchestration.partitions import Window, spanning
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.schema import Table
from tft_pipeline.storage.knowledge import days_of_news


def pieces(pipeline: Pipeline, window: Window, tables: Sequence[Table], *, since: datetime) -> list[Window]:
    """The window in pieces, ascending, each of which may read tables as of its own `known`: one, unless bars were corrected or came late.

    since: the first moment that is read, warm-up included.
    """
    news = days_of_news(
        pipeline.database, tables, since=since, start=window.start, end=window.end, delay=pipeline.bars.delay
    )
    return cut(pipeline, window, news)


def cut(pipeline: Pipeline, window: Window, days: Sequence[date]) -> list[Window]:
    """The window in pieces, ascending, of which one begins with each of days, ascending, where that lies within."""
    edges = [window.start, *(config.day_start(day) for day in days), window.end]
    return [
        spanning(start, end, pipeline.now(), pipeline.bars.delay)
        for start, end in pairwise(edges)
        if end - start >= timedelta(days=1)
    ]
