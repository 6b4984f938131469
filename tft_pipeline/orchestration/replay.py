"""A past moment once more: posts, mentions, mood, features and forecasts from raw tables as of then, held against what was issued then.

What belongs here: choosing the issue, rebuilding in memory, comparing. What does not: how anything is rebuilt (`rebuilding`), or what is
hashed (`issuing`). Nothing is written: PostgreSQL is read as the reader, in transactions that refuse to write.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from tft_pipeline.config import Settings
from tft_pipeline.contracts import ACTIONS, BARS, FEATURES, POSTS, QUANTILES
from tft_pipeline.errors import ConfigError, PipelineError
from tft_pipeline.features.matrix import WARMUP_DAYS
from tft_pipeline.forecasts.baselines import BASELINE_ID
from tft_pipeline.orchestration.partitions import spanning
from tft_pipeline.orchestration.rebuilding import (
    MOOD_WARMUP_DAYS,
    Served,
    encoder_days,
    features_of,
    forecasts_of,
    mentions_of,
    mood_of,
)
from tft_pipeline.orchestration.resources import Pipeline, Progress, no_progress
from tft_pipeline.orchestration.settling import settle
from tft_pipeline.schema import Table
from tft_pipeline.storage.audit import damaged
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.hashes import hash_of
from tft_pipeline.storage.issues import arrived_since, first_known, newest_issues
from tft_pipeline.storage.opening import open_database
from tft_pipeline.storage.read import read
from tft_pipeline.storage.roles import reading

RAW = (BARS, ACTIONS, POSTS)
_MOST_DAMAGES = 10
_DAY = timedelta(days=1)
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Rebuilt:
    """What raw tables as of known_at give for one moment of issue."""

    features: pd.DataFrame
    quantiles: pd.DataFrame


def replay(settings: Settings, as_of: datetime, *, progress: Progress = no_progress) -> dict[str, Any]:
    """The report of `replay_in`, on this installation's database. Raises ConfigError for a moment that is none."""
    refuse_no_moment(as_of)
    settings = settle(settings, remembering=False)
    with open_database(settings, as_it_is=True) as database:
        return replay_in(database, settings, as_of, progress=progress)


def replay_in(
    database: Database, settings: Settings, as_of: datetime, *, progress: Progress = no_progress
) -> dict[str, Any]:
    """Rebuild the newest issue that was known at as_of, from bars, actions and posts alone, and say whether it is equal, hash for hash.

    Beside equal, as_of, issued_at and simulated, the report has one entry in issues for each model that spoke then, the baseline among
    them: hashes issued and rebuilt, tickers, code version then and now, and where something differs, what differs first.
    Raises ConfigError: as_of without zone, or still to come; PipelineError: nothing had been issued by then; ArtifactError.
    """
    refuse_no_moment(as_of)
    reader = reading(database)
    issues = newest_issues(reader, as_of)
    if issues.empty:
        raise PipelineError(_nothing_yet(reader, as_of))
    entries = []
    for known_at in sorted(issues["known_at"].unique()):
        of_moment = issues[issues["known_at"] == known_at]
        # The world is shown up to then: whatever is asked for the present, is told that moment.
        pipeline = Pipeline(settings, database=reader, until=known_at.to_pydatetime(), progress=progress)
        models = [str(model) for model in of_moment["model_id"]]
        rebuilt = rebuild(pipeline, of_moment["issued_at"].iloc[0].to_pydatetime(), models)
        entries += [_compared(pipeline, issue, rebuilt) for _, issue in of_moment.iterrows()]
    equal = all(entry["equal"] for entry in entries)
    issued_at, known_at = issues["issued_at"].iloc[0].to_pydatetime(), issues["known_at"].max().to_pydatetime()
    return {
        "equal": equal,
        "as_of": as_of.astimezone(UTC).isoformat(),
        "issued_at": issued_at.isoformat(),
        "market": settings.market,
        "simulated": settings.simulated,
        "issues": sorted(entries, key=lambda entry: (entry["model_id"] == BASELINE_ID, entry["model_id"])),
        "arrived_since": arrived_since(reader, RAW, before=issued_at, known_at=known_at),
        # Every raw row is read for this, so only where there is something to explain.
        "damaged": [] if equal else damaged(reader, RAW)[:_MOST_DAMAGES],
    }


def rebuild(pipeline: Pipeline, issued_at: datetime, models: list[str]) -> Rebuilt:
    """FEATURES of the bars that ended at issued_at, and QUANTILES of these models then, as of pipeline.now(), from raw tables alone."""
    day = issued_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first, end = day - timedelta(days=encoder_days(pipeline)), day + _DAY
    warm, as_of = first - timedelta(days=WARMUP_DAYS), pipeline.now()
    _step(pipeline, "mood", 0)
    heard = mentions_of(pipeline, warm - timedelta(days=MOOD_WARMUP_DAYS), end, as_of=as_of, save=False)
    mood = mood_of(heard.mentions, warm, end)
    _step(pipeline, "mood", 1)
    _step(pipeline, "features", 0)
    features = features_of(pipeline, spanning(first, end, as_of, pipeline.bars.delay), mood)
    _step(pipeline, "features", 1)
    until = issued_at + _INSTANT
    served = [Served(model, issued_at, until) for model in models if model != BASELINE_ID]
    forecast = forecasts_of(pipeline, features, issued_at, until, served)
    return Rebuilt(_spoken(pipeline, features, issued_at), forecast.quantiles)


def _spoken(pipeline: Pipeline, features: pd.DataFrame, issued_at: datetime) -> pd.DataFrame:
    """What was issued at a moment had these rows of FEATURES: those of the tickers that were members then."""
    return pipeline.membership.speaking(features[features["bar_end"] == issued_at], "bar_end")


def refuse_no_moment(as_of: datetime) -> None:
    """Raises ConfigError for a time without zone, and for one that is still to come."""
    if as_of.tzinfo is None:
        raise ConfigError(
            f"{as_of.isoformat()} has no time zone; say {as_of:%Y-%m-%dT%H:%M}Z for UTC, or give an offset such as +01:00."
        )
    if as_of > datetime.now(UTC):
        raise ConfigError(
            f"{as_of.isoformat()} is still to come; nothing is known as of then. Choose a moment that is past."
        )


def _nothing_yet(database: Database, as_of: datetime) -> str:
    first = first_known(database)
    if first is None:
        return "nothing was ever issued here: forecasts.issues is empty. Run `tft-pipeline demo`, or `tft-pipeline backfill --from … --to …`."
    return (
        f"nothing had been issued by {as_of.astimezone(UTC):%Y-%m-%d %H:%M} UTC; the first forecasts were known at {first.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC. "
        "Choose that moment or a later one."
    )


def _step(pipeline: Pipeline, stage: str, done: int) -> None:
    pipeline.progress(f"rebuilding {stage}", done, 1)


# Comparing ------------------------------------------------------------------------------------------------------------


def _compared(pipeline: Pipeline, issue: pd.Series, rebuilt: Rebuilt) -> dict[str, Any]:
    """One model's issue against what was rebuilt."""
    moment, model_id = issue["issued_at"], str(issue["model_id"])
    quantiles = rebuilt.quantiles[rebuilt.quantiles["model_id"] == model_id]
    day = moment.floor("D").to_pydatetime()
    held = read(pipeline.database, FEATURES, day - _DAY, day + _DAY)
    said = read(pipeline.database, QUANTILES, moment, moment + _INSTANT, where={"model_id": model_id})
    features = _of_table(FEATURES, issue["features_hash"], rebuilt.features, _spoken(pipeline, held, moment))
    forecast = _of_table(QUANTILES, issue["forecast_hash"], quantiles, said)
    return {
        "model_id": model_id,
        "equal": features["equal"] and forecast["equal"],
        "known_at": issue["known_at"].isoformat(),
        "tickers": {"issued": int(issue["tickers"]), "rebuilt": int(quantiles["ticker"].nunique())},
        "code_version": {"issued": str(issue["code_version"]), "rebuilt": pipeline.code_version},
        "features": features,
        "forecast": forecast,
    }


def _of_table(table: Table, issued: str, rebuilt: pd.DataFrame, held: pd.DataFrame) -> dict[str, Any]:
    """The hashes, and where they differ, the first value that does. held: what the derived table says of the moment now."""
    found = hash_of(rebuilt, table)
    entry: dict[str, Any] = {"issued": issued, "rebuilt": found, "equal": found == issued}
    if found == issued:
        return entry
    if hash_of(held, table) != issued:
        return {**entry, "difference": None, "why_not_named": f"{table.name} no longer holds the rows that were issued"}
    return {**entry, "difference": first_difference(table, held, rebuilt)}


def first_difference(table: Table, issued: pd.DataFrame, rebuilt: pd.DataFrame) -> dict[str, Any]:
    """The first row, by key, that only one of the two has; else the first value, by key and column, that is not the same bit for bit.

    Returns table, the row's key by name, column, issued and rebuilt; where a row is missing, column is None and these two say so.
    """
    ours, theirs = (frame.set_index(list(table.key), drop=False).sort_index() for frame in (issued, rebuilt))
    alone = ours.index.symmetric_difference(theirs.index)
    if len(alone):
        lost = alone[0] in ours.index
        row = (ours if lost else theirs).loc[alone[0]]
        said = {"column": None, "issued": "a row" if lost else "no row", "rebuilt": "no row" if lost else "a row"}
        return {"table": table.name, **{name: _plain(row[name]) for name in table.key}, **said}
    for key in ours.index:
        for column in table.names:
            was, now = _plain(ours.loc[key, column]), _plain(theirs.loc[key, column])
            if repr(was) != repr(now):  # 0.0 and -0.0 are two
                place = {name: _plain(ours.loc[key, name]) for name in table.key}
                return {"table": table.name, **place, "column": column, "issued": was, "rebuilt": now}
    raise PipelineError(f"{table.name}: hashes differ though no value does; is one of the frames not by contract?")


def _plain(value: Any) -> Any:
    """A value that JSON knows."""
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value
