"""From raw tables, as of a moment, to what the derived ones hold: the one way that both the assets and `replay` go.

What belongs here: reading inputs as they were known and handing them to the stages. What does not: the formulas, which are the stages',
and writing, which is the assets'.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pandas as pd

from tft_pipeline import schema
from tft_pipeline.contracts import ACTIONS, BARS, FEATURES, POSTS, QUANTILES
from tft_pipeline.features.matrix import WARMUP_DAYS, feature_matrix
from tft_pipeline.forecasts.baselines import naive
from tft_pipeline.forecasts.predict import not_forecast, predict
from tft_pipeline.market.actions import dividend_on, renamed, split_factor
from tft_pipeline.market.sessions import infer_phase
from tft_pipeline.orchestration.expected import expected_bars
from tft_pipeline.orchestration.membership import Membership, mentions_among
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.pieces import cut, pieces
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.sentiment.cleaning import clean
from tft_pipeline.sentiment.hourly import hourly
from tft_pipeline.sentiment.scoring import MOODS
from tft_pipeline.sentiment.scoring import mentions as scored_mentions
from tft_pipeline.storage.knowledge import first_versions
from tft_pipeline.storage.models import load_artifact
from tft_pipeline.storage.read import read
from tft_pipeline.storage.scores_cache import cached_scores, save_scores
from tft_pipeline.training.artifacts import load

# A post that is read later than two days after its own day speaks to no hour any more: else the mood of a day would depend on how far
# back the run that computes it happens to reach. One day more, for hourly momentum looks back 24 hours.
LATE_DAYS = 2
MOOD_WARMUP_DAYS = LATE_DAYS + 1
SAVED_EVERY = 4096  # texts; a crash loses no more scores than these
# A split of any age moves the level of every price after it, so late news of one counts however old it is.
_BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)

Said = Callable[[str], None]


def _unsaid(sentence: str) -> None:
    """Nobody listens."""


# Mood -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """MENTIONS, and for how many texts their scores were there already."""

    mentions: pd.DataFrame
    scored: int
    cached: int


def mentions_of(
    pipeline: Pipeline, start: datetime, end: datetime, *, as_of: datetime, save: bool, say: Said = _unsaid
) -> Heard:
    """MENTIONS of the posts of start <= created_at < end that had been read by as_of, each as it was first read.

    A mention counts from its known_at on, and an edit does not unsay it. save: keep the scores of texts that are new to the scorer.
    """
    posts = first_versions(pipeline.database, POSTS, start, end, known_by=as_of)
    found = mentions_among(posts, pipeline.membership.intervals, pipeline.universe, only=pipeline.only)
    spoken = posts["text_hash"].isin(set(found["text_hash"]))
    texts = posts.loc[spoken, ["text_hash", "text"]].drop_duplicates("text_hash")
    scorer_id = pipeline.scorer.scorer_id
    known = cached_scores(pipeline.database, sorted(texts["text_hash"]), scorer_id)
    new = _scores(pipeline, texts[~texts["text_hash"].isin(set(known["text_hash"]))], save=save, say=say)
    frame = scored_mentions(found, pd.concat([known, new], ignore_index=True), scorer_id)
    return Heard(frame, scored=len(new), cached=len(texts) - len(new))


def _scores(pipeline: Pipeline, unknown: pd.DataFrame, *, save: bool, say: Said) -> pd.DataFrame:
    """text_hash and probabilities of texts that the cache does not hold."""
    scorer = pipeline.scorer
    # Like lengths together: a batch costs what its longest text costs.
    ordered = unknown.assign(length=unknown["text"].str.len()).sort_values(["length", "text_hash"])
    parts = [
        pd.DataFrame({"text_hash": pd.Series(dtype="str"), **{mood: pd.Series(dtype="float64") for mood in MOODS}})
    ]
    for start in range(0, len(ordered), SAVED_EVERY):
        part = ordered.iloc[start : start + SAVED_EVERY]
        probabilities = scorer.score([clean(text) for text in part["text"]])
        scores = pd.DataFrame(probabilities, columns=MOODS).astype("float64")
        scores = scores.assign(text_hash=part["text_hash"].to_numpy())
        if save:
            save_scores(pipeline.database, scores, scorer.scorer_id)
        parts.append(scores)
        done = start + len(part)
        pipeline.progress("scoring posts", done, len(ordered))
        say(f"scored {done:,} of {len(ordered):,} texts")
    return pd.concat(parts, ignore_index=True)


def mood_of(mentions: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """HOURLY_SENTIMENT of start <= hour_start < end. mentions: those of posts from MOOD_WARMUP_DAYS before start on."""
    in_time = mentions["created_at"] >= mentions["known_at"].dt.floor("D") - timedelta(days=LATE_DAYS)
    return hourly(mentions[in_time], start=start, end=end)


# Features -------------------------------------------------------------------------------------------------------------


def features_of(pipeline: Pipeline, window: Window, mood: pd.DataFrame) -> pd.DataFrame:
    """FEATURES of the window, each day as of its own end, the last as of window.known at the latest.

    mood: HOURLY_SENTIMENT from WARMUP_DAYS before the window on. A correction changes the features from the day on which it became
    known, not those before it. Tickers that were no members have rows, too, but move nobody else's. From the day of its rename on, a share's
    rows are the new ticker's, made of its whole history.
    """
    members = pipeline.membership
    by_bars = pieces(pipeline, window, [BARS], since=window.before(WARMUP_DAYS))
    by_actions = [part for piece in by_bars for part in pieces(pipeline, piece, [ACTIONS], since=_BEGINNING)]
    parts = [part for piece in by_actions for part in cut(pipeline, piece, _rename_days(pipeline, piece))]
    return schema.concat([_features_of_piece(pipeline, part, mood, members) for part in parts], FEATURES)


def _rename_days(pipeline: Pipeline, window: Window) -> list[date]:
    """From each of these on, a share has another name; up to it, its own of then."""
    actions = read(pipeline.database, ACTIONS, window.start, window.end, as_of=window.known)
    days = actions.loc[actions["kind"] == "rename", "effective_at"].dt.date
    return sorted(set(days) - {window.start.date()})


def _features_of_piece(pipeline: Pipeline, window: Window, mood: pd.DataFrame, members: Membership) -> pd.DataFrame:
    warm = window.before(WARMUP_DAYS)
    bars = read(pipeline.database, BARS, warm, window.end, as_of=window.known)
    actions = read(pipeline.database, ACTIONS, as_of=window.known)
    bars = bars.assign(counts=members.counted(bars["ticker"], bars["bar_end"]))  # under the name of then
    renames = actions[actions["effective_at"] < window.end]
    bars, actions = renamed(bars, renames, time="bar_start"), renamed(actions, renames, time="effective_at")
    bars = bars.assign(split_factor=split_factor(bars, actions), dividend=dividend_on(bars, actions))
    # From a fortnight before, so that the first bar knows when the one before it was expected to end.
    grid = pipeline.calendar.bar_grid(
        (warm - timedelta(days=14)).date(), window.end.date(), phase_minutes=infer_phase(bars[bars["counts"]])
    )
    heard = renamed(mood[(mood["hour_start"] >= warm) & (mood["hour_start"] < window.end)], renames, time="hour_start")
    matrix = feature_matrix(bars, heard, grid)
    inside: pd.DataFrame = matrix[(matrix["bar_start"] >= window.start) & (matrix["bar_start"] < window.end)]
    return inside


# Forecasts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """A model and the stretch of time for which it speaks: start <= issued_at < end."""

    model_id: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Forecast:
    """QUANTILES, and the tickers that a model had to leave out, with the reason."""

    quantiles: pd.DataFrame
    silent: dict[str, str]


def encoder_days(pipeline: Pipeline) -> int:
    """Calendar days that surely hold the encoder's bars."""
    return 10 + 2 * pipeline.settings.training.encoder_bars


def forecasts_of(
    pipeline: Pipeline, features: pd.DataFrame, start: datetime, end: datetime, models: Sequence[Served]
) -> Forecast:
    """QUANTILES of start <= issued_at < end, by the baseline, and by each model for its stretch; of tickers that were members then.

    features: FEATURES from encoder_days before start on. Raises ArtifactError, LeakageError.
    """
    horizon = pipeline.settings.training.horizon_hours
    members = pipeline.membership
    within = features[(features["bar_end"] >= start) & (features["bar_end"] < end)]
    features = features[features["ticker"].isin(members.speaking(within, "bar_end")["ticker"].unique())]
    calendar = expected_bars(pipeline, features, horizon_hours=horizon)
    parts = [naive(features, calendar, horizon, start=start, end=end)]
    silent: dict[str, str] = {}
    for number, served in enumerate(models, start=1):
        model = load(load_artifact(pipeline.database, served.model_id))
        parts.append(predict(model, features, calendar, start=served.start, end=served.end))
        silent |= not_forecast(model, features, calendar, start=served.start, end=served.end)
        pipeline.progress("forecasting", number, len(models))
    return Forecast(members.speaking(schema.concat(parts, QUANTILES), "issued_at"), silent)
