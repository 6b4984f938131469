"""Posts that are held, read again: edits and deletions become revisions, on whichever day the post was written.

What belongs here: which posts are asked about, and what of the answers is news. What does not: how they are asked (`sources`), and how
a revision is kept (`storage.slices`). A revision of a post changes nothing that was derived from it, for a mention counts as it was
first read (`rebuilding.mentions_of`): so earlier days' posts are written by the run that finds them changed, and no other asset follows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import dagster as dg
import pandas as pd

from tft_pipeline.contracts import POSTS
from tft_pipeline.errors import SourceError
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.reporting import tables_of
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.schema import concat
from tft_pipeline.sentiment.cleaning import clean, text_hash
from tft_pipeline.sources.protocols import Rechecking
from tft_pipeline.storage.audit import reaches_to
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import slice_status
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import Claim, Written, take_generation, write

MOST_ASKED = 4_000  # posts a run: forty requests of the hundred a minute that Reddit grants
_KEY = list(POSTS.key)


@dataclass(frozen=True)
class Rechecked:
    """posts: POSTS of the window, as read. earlier: POSTS of days before it whose texts are others now, with the moment of reading.

    held: posts that are young enough to be asked about and were not just read; asked: of them, those that were. problem: a sentence.
    """

    posts: pd.DataFrame
    earlier: pd.DataFrame
    held: int = 0
    asked: int = 0
    edited: int = 0
    deleted: int = 0
    problem: str | None = None


def recheck(pipeline: Pipeline, posts: pd.DataFrame, window: Window) -> Rechecked:
    """posts, which were just read, with those that are held and read otherwise now; never raises for what cannot be asked again.

    posts: POSTS of the window. Asked about are posts of the last TFT_REDDIT_RECHECK_DAYS × 24 hours, up to the window's end, that are not
    among them; where there are too many for one run, a part of them, another one each hour.
    """
    source, now = pipeline.posts, pipeline.now()
    if source is None or not isinstance(source, Rechecking):
        return Rechecked(posts, POSTS.empty())
    known = read(pipeline.database, POSTS, window.start, window.moment, where={"post_id": list(posts["post_id"])})
    found, more, problem = as_revisions(posts, known, now), POSTS.empty(), None
    since = now - timedelta(days=pipeline.settings.reddit.recheck_days)
    young = read(pipeline.database, POSTS, since, window.moment) if since < window.moment else POSTS.empty()
    young = young[~_keys(young).isin(_keys(posts))]
    asked = turn(young, now)
    if len(asked):
        try:
            answer = source.recheck(asked[_KEY])
            more, problem = hashed(answer.frame), "; ".join(answer.problems.values()) or None
        except SourceError as error:
            asked, problem = asked.iloc[:0], str(error)
    more = _changed(as_revisions(more, asked, now), asked)
    inside = more["created_at"] >= window.start
    deleted = int((more["text"] == "").sum())
    return Rechecked(
        concat([found, more[inside]], POSTS), more[~inside].reset_index(drop=True), len(young), len(asked),
        edited=len(more) - deleted, deleted=deleted, problem=problem,
    )  # fmt: skip


def as_revisions(posts: pd.DataFrame, held: pd.DataFrame, now: datetime) -> pd.DataFrame:
    """posts; those that are held with another text are known from now on, and keep the score they were first read with.

    A source gives what is loaded after the fact its nominal time, and an edit would then seem older than the text that it replaced.
    """
    before = posts[_KEY].merge(held[[*_KEY, "text", "score"]], on=_KEY, how="left", validate="one_to_one")
    differs = (before["text"].notna() & (before["text"] != posts["text"].reset_index(drop=True))).to_numpy()
    moment = pd.Timestamp(now).as_unit("us")
    return posts.assign(
        known_at=posts["known_at"].mask(differs, moment),
        score=posts["score"].mask(differs, before["score"].fillna(0).astype("int64").set_axis(posts.index)),
    ).astype({"known_at": posts["known_at"].dtype, "score": "int64"})


def turn(held: pd.DataFrame, now: datetime) -> pd.DataFrame:
    """All of held, or where they are more than MOST_ASKED, every n-th of them: the next ones an hour later. (≤ MOST_ASKED, …)"""
    parts = -(-len(held) // MOST_ASKED)
    if parts <= 1:
        return held.reset_index(drop=True)
    ordered = held.sort_values(["created_at", "post_id"], kind="stable", ignore_index=True)
    return ordered.iloc[int(now.timestamp() // 3600) % parts :: parts].reset_index(drop=True)


def hashed(posts: pd.DataFrame) -> pd.DataFrame:
    """posts as a source gives them, by contract: with the hash of the cleaned text."""
    hashes = [text_hash(clean(text)) for text in posts["text"]]
    return posts.assign(text_hash=pd.Series(hashes, index=posts.index, dtype="str"))


def write_earlier(
    context: dg.AssetExecutionContext, pipeline: Pipeline, earlier: pd.DataFrame, window: Window
) -> Mapping[date, Written]:
    """Revise posts of days before the window; {day: what was done}. How far those slices reach stays as it is; each day gets an event.

    Raises StaleWriterError where the window's own claim no longer stands.
    """
    by_day = {day: rows for day, rows in earlier.groupby(earlier["created_at"].dt.date)}  # noqa: C416
    if not by_day:
        return {}
    holding = None if window.generation is None else Claim(window.generation, window.days)
    generation = take_generation(pipeline.database, [POSTS], by_day, holding=holding)
    done: dict[date, Written] = {}
    for day, rows in by_day.items():
        reach = reaches_to(pipeline.database, POSTS, day)
        if reach is None:  # its month was retired meanwhile
            continue
        done[day] = write(
            pipeline.database, {POSTS: rows}, [day], run_id=context.run.run_id, code_version=pipeline.code_version,
            reaches_to=reach, generation=generation,
        )[POSTS.name]  # fmt: skip
        context.log_event(_event(context, pipeline.database, day, done[day]))
    return done


def _event(
    context: dg.AssetExecutionContext, database: Database, day: date, written: Written
) -> dg.AssetMaterialization:
    """What the ledger now says of the day, for Dagster's record is held against it."""
    asset = context.asset_key.to_user_string()
    ledger = {table.name: slice_status(database, table) for table in tables_of(asset)}
    of_day = {name: one for name, found in ledger.items() for one in found[found["day"] == day].to_dict("records")}
    rows = sum(one["row_count"] for one in of_day.values())
    return dg.AssetMaterialization(
        asset_key=context.asset_key,
        partition=day.isoformat(),
        description="Posts of an earlier day that were edited or deleted since; what was derived from them stays as it is.",
        metadata={
            "dagster/row_count": rows, "rows": rows, "slices": 1, "rows_written": written.rows_written, "rows_revised": written.rows_revised,
            "content_hashes": {name: str(one["content_hash"]) for name, one in of_day.items()},
        },
    )  # fmt: skip


def _changed(found: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """Those of found that read otherwise than when they were asked about."""
    before = found[_KEY].merge(asked[[*_KEY, "text"]], on=_KEY, how="left", validate="one_to_one")["text"]
    return found[(before != found["text"].reset_index(drop=True)).to_numpy()]


def _keys(posts: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(posts[_KEY])
