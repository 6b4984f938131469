"""Posts, what they say about which ticker, and the hourly mood, as assets. How a mood is scored lives in `sentiment`."""

import dagster as dg

from tft_pipeline.contracts import COVERAGE, HOURLY_SENTIMENT, MENTIONS, POSTS
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.post_coverage import coverage_of, facts
from tft_pipeline.orchestration.rebuilding import MOOD_WARMUP_DAYS, mentions_of, mood_of
from tft_pipeline.orchestration.rechecking import hashed, recheck, write_earlier
from tft_pipeline.orchestration.reporting import Result, begin, coverage, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.sources.protocols import Fetched, Span
from tft_pipeline.storage.read import read


@table_asset("sentiment", POSTS, COVERAGE, pool="reddit")
def social_posts(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """Posts as they were read, each with the hash of its cleaned text, and how much of each hour that covers; edits become revisions."""
    watch, window = begin(context, pipeline)
    source, span = pipeline.posts, Span(window.start, window.moment)
    fetched = source.posts(span) if source else Fetched(POSTS.empty(), {})
    rechecked = recheck(pipeline, hashed(fetched.frame), window)
    problems = fetched.problems | ({"edits and deletions": rechecked.problem} if rechecked.problem else {})
    for channel, problem in problems.items():
        context.log.warning(f"{channel}: {problem}")
    covered = coverage_of(pipeline, source, fetched, span) if source else COVERAGE.empty()
    # A listing that does not reach back gives no more the next time; a channel that could not be read, may.
    complete = all(one.answered for one in fetched.asked)
    written = pipeline.write(context.run.run_id, {POSTS: rechecked.posts, COVERAGE: covered}, window, complete=complete)
    earlier = write_earlier(context, pipeline, rechecked.earlier, window)
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [POSTS, COVERAGE], window)],
        source=source.name if source else "none", problems=problems or None, complete=complete, **facts(covered, span),
        posts_rechecked=f"{rechecked.asked:,} of {rechecked.held:,}", edited=rechecked.edited, deleted=rechecked.deleted,
        earlier_days_revised=", ".join(f"{day}: {done.rows_revised}" for day, done in earlier.items()) or None,
        ticker_coverage="posts have no ticker before ticker_mentions reads them",
    )  # fmt: skip


@table_asset("sentiment", MENTIONS, kinds=["huggingface"], deps=[social_posts])
def ticker_mentions(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """Which ticker each post speaks of, and in what mood: bearish, neutral or bullish with a confidence."""
    watch, window = begin(context, pipeline)
    # As each was first read, whenever that was: a mention counts from its known_at on, and an edit does not unsay it.
    heard = mentions_of(pipeline, window.start, window.end, as_of=pipeline.now(), save=True, say=context.log.info)
    written = pipeline.write(context.run.run_id, {MENTIONS: heard.mentions}, window)
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [MENTIONS], window)],
        texts_scored=heard.scored, texts_cached=heard.cached, scorer=pipeline.scorer.scorer_id,
        **coverage(heard.mentions, pipeline.tickers),
    )  # fmt: skip


@table_asset("sentiment", HOURLY_SENTIMENT, deps=[ticker_mentions])
def sentiment_hourly(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """The mood toward each ticker, hour by hour: counts, score, momentum and confidence."""
    watch, window = begin(context, pipeline)
    mentions = read(pipeline.database, MENTIONS, window.before(MOOD_WARMUP_DAYS), window.end)
    frame = mood_of(mentions, window.start, window.end)
    written = pipeline.write(context.run.run_id, {HOURLY_SENTIMENT: frame}, window)
    counts = frame[["bullish_count", "bearish_count", "neutral_count"]].sum()
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [HOURLY_SENTIMENT], window)],
        bullish=int(counts["bullish_count"]), bearish=int(counts["bearish_count"]), neutral=int(counts["neutral_count"]),
        **coverage(frame, pipeline.tickers),
    )  # fmt: skip
