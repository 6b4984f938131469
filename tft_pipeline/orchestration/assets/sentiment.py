"""Posts, what they say about which ticker, and the hourly mood, as assets. How a mood is scored lives in `sentiment`."""

import dagster as dg
import pandas as pd

from tft_pipeline.contracts import HOURLY_SENTIMENT, MENTIONS, POSTS
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.reporting import Result, begin, coverage, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.sentiment.cleaning import clean, text_hash
from tft_pipeline.sentiment.hourly import hourly
from tft_pipeline.sentiment.mentions import find_mentions
from tft_pipeline.sentiment.scoring import mentions as scored_mentions
from tft_pipeline.sources.protocols import Fetched, Span
from tft_pipeline.storage.knowledge import first_versions
from tft_pipeline.storage.read import read
from tft_pipeline.storage.scores_cache import cached_scores, save_scores

# hourly momentum looks back 24 hours.
WARMUP_DAYS = 2
SAVED_EVERY = 4096  # texts; a crash loses no more scores than these


@table_asset("sentiment", POSTS, pool="reddit")
def social_posts(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """Posts as they were read, each with the hash of its cleaned text: nothing is scored twice."""
    watch, window = begin(context, pipeline)
    source = pipeline.posts
    fetched = source.posts(Span(window.start, window.moment)) if source else Fetched(POSTS.empty(), {})
    for channel, problem in fetched.problems.items():
        context.log.warning(f"{channel}: {problem}")
    hashes = [text_hash(clean(text)) for text in fetched.frame["text"]]
    frame = fetched.frame.assign(text_hash=pd.Series(hashes, index=fetched.frame.index, dtype="str"))
    written = pipeline.write(context.run.run_id, {POSTS: frame}, window)
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [POSTS], window)],
        source=source.name if source else "none", problems=fetched.problems or None,
    )  # fmt: skip


@table_asset("sentiment", MENTIONS, kinds=["huggingface"], deps=[social_posts])
def ticker_mentions(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """Which ticker each post speaks of, and in what mood: bearish, neutral or bullish with a confidence."""
    watch, window = begin(context, pipeline)
    # As each was first read, whenever that was: a mention counts from its known_at on, and an edit does not unsay it.
    posts = first_versions(pipeline.database, POSTS, window.start, window.end, known_by=pipeline.now())
    found = find_mentions(posts, pipeline.tickers)
    texts = posts.loc[posts["text_hash"].isin(set(found["text_hash"])), ["text_hash", "text"]].drop_duplicates(
        "text_hash"
    )
    new = _score_unknown(context, pipeline, texts)
    scores = cached_scores(pipeline.database, sorted(texts["text_hash"]), pipeline.scorer.scorer_id)
    frame = scored_mentions(found, scores, pipeline.scorer.scorer_id)
    written = pipeline.write(context.run.run_id, {MENTIONS: frame}, window)
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [MENTIONS], window)],
        texts_scored=new, texts_cached=len(texts) - new, scorer=pipeline.scorer.scorer_id, **coverage(frame, pipeline.tickers),
    )  # fmt: skip


def _score_unknown(context: dg.AssetExecutionContext, pipeline: Pipeline, texts: pd.DataFrame) -> int:
    """Score the texts that the cache does not hold; returns how many."""
    scorer = pipeline.scorer
    known = set(cached_scores(pipeline.database, sorted(texts["text_hash"]), scorer.scorer_id)["text_hash"])
    unknown = texts[~texts["text_hash"].isin(known)]
    # Like lengths together: a batch costs what its longest text costs.
    unknown = unknown.assign(length=unknown["text"].str.len()).sort_values(["length", "text_hash"])
    for start in range(0, len(unknown), SAVED_EVERY):
        part = unknown.iloc[start : start + SAVED_EVERY]
        probabilities = scorer.score([clean(text) for text in part["text"]])
        scores = pd.DataFrame(probabilities, columns=["bearish", "neutral", "bullish"])
        save_scores(pipeline.database, scores.assign(text_hash=part["text_hash"].to_numpy()), scorer.scorer_id)
        done = start + len(part)
        pipeline.progress("scoring posts", done, len(unknown))
        context.log.info(f"scored {done:,} of {len(unknown):,} texts")
    return len(unknown)


@table_asset("sentiment", HOURLY_SENTIMENT, deps=[ticker_mentions])
def sentiment_hourly(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """The mood toward each ticker, hour by hour: counts, score, momentum and confidence."""
    watch, window = begin(context, pipeline)
    mentions = read(pipeline.database, MENTIONS, window.before(WARMUP_DAYS), window.end)
    frame = hourly(mentions, start=window.start, end=window.end)
    written = pipeline.write(context.run.run_id, {HOURLY_SENTIMENT: frame}, window)
    counts = frame[["bullish_count", "bearish_count", "neutral_count"]].sum()
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [HOURLY_SENTIMENT], window)],
        bullish=int(counts["bullish_count"]), bearish=int(counts["bearish_count"]), neutral=int(counts["neutral_count"]),
        **coverage(frame, pipeline.tickers),
    )  # fmt: skip
