"""How much of a window's hours a source of posts covered: as rows of COVERAGE, and in words for the UI and the doctor."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.contracts import COVERAGE
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.schema import validate
from tft_pipeline.sentiment.coverage import Stretch, counted, minutes_covered, together
from tft_pipeline.sources.protocols import Fetched, PostSource, Span
from tft_pipeline.storage.coverage import standing
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.read import read

WHOLE = "posts"  # the kind of a source that reaches back for ever
_SEARCH = "search"
_DOCTORS_DAYS = 7
_MOST_SHOWN = 6


def coverage_of(pipeline: Pipeline, source: PostSource, fetched: Fetched, span: Span) -> pd.DataFrame:
    """COVERAGE of the span's hours: what was read now, and what of these hours was read before.

    A source that does not say whom it asked has read all there is, under its own name; it is known once the hour is over. Of others
    each channel and kind has a row for every hour, known since now, with 0 minutes where it was asked in vain.
    """
    asked = [(one.channel, one.kind) for one in fetched.asked if one.kind != _SEARCH]
    stretches = [Stretch(one.channel, one.kind, one.span.start, one.span.end) for one in fetched.covered]
    if not fetched.asked:
        asked, stretches = [(source.name, WHOLE)], [Stretch(source.name, WHOLE, span.start, span.end)]
    found = minutes_covered(asked, stretches, start=span.start, end=span.end)
    rows = together(found, read(pipeline.database, COVERAGE, span.start, span.end))
    ends = rows["hour_start"] + timedelta(hours=1)
    ends = ends.where(ends <= span.end, pd.Timestamp(span.end).as_unit("us")) + source.delay
    now = pd.Series(pd.Timestamp(pipeline.now()).as_unit("us"), index=rows.index, dtype=ends.dtype)
    named = pd.Series(source.name, index=rows.index, dtype="str")
    return validate(rows.assign(source=named, known_at=now if fetched.asked else ends), COVERAGE)


def facts(rows: pd.DataFrame, span: Span) -> dict[str, Any]:
    """For an event: hours covered of those asked for, by channel and kind, and the oldest hour that is not covered whole."""
    if rows.empty:
        return {}
    hours = counted(rows, span.end)
    sums = hours.groupby(["channel", "kind"])[["covered", "asked"]].sum()
    missing = hours[hours["covered"] < hours["asked"]].sort_values("hour_start", kind="stable")
    oldest = "none"
    if len(missing):
        first = missing.iloc[0]
        oldest = f"{first['hour_start']:%Y-%m-%d %H:%M} UTC ({first['channel']} {first['kind']})"
    told = zip(sums.index, sums["covered"], sums["asked"], strict=True)
    return {
        "hours_covered": {f"{channel} {kind}": f"{n / 60:.1f} of {of / 60:.1f}" for (channel, kind), n, of in told},
        "oldest_hour_not_covered": oldest,
    }


def sentence(settings: Settings, database: Database, *, now: datetime | None = None) -> str:
    """For the doctor: the last seven days of each channel and kind, those with gaps first. An hour has an hour's time to be read."""
    if settings.posts == "none":
        return "none configured: no hour is asked for"
    end = (now or datetime.now(UTC)).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    if settings.end is not None:
        end = min(end, config.day_start(settings.end) + timedelta(days=1))
    found = standing(database, end - timedelta(days=_DOCTORS_DAYS), end)
    if not found:
        return f"no hour of the {_DOCTORS_DAYS} days before {end:%Y-%m-%d %H:%M} UTC was asked for"
    gaps = sorted((one for one in found if one.oldest_gap is not None), key=lambda one: one.share)
    said = [
        f"{one.channel} {one.kind} {np.floor(one.share * 100):.0f} %, oldest gap {one.oldest_gap:%Y-%m-%d %H:%M}"
        for one in gaps[:_MOST_SHOWN]
    ]
    if len(gaps) > _MOST_SHOWN:
        said.append(f"{len(gaps) - _MOST_SHOWN} more with gaps")
    if whole := [f"{one.channel} {one.kind}" for one in found if one.oldest_gap is None]:
        more = f" and {len(whole) - _MOST_SHOWN} more" if len(whole) > _MOST_SHOWN else ""
        said.append(f"{', '.join(whole[:_MOST_SHOWN])}{more} whole")
    return f"covered of the {_DOCTORS_DAYS} days up to {end:%Y-%m-%d %H:%M} UTC: {'; '.join(said)}"
