import pandas as pd
import pytest

from tft_pipeline.contracts import MENTIONS
from tft_pipeline.errors import ContractError
from tft_pipeline.schema import validate
from tft_pipeline.sentiment.mentions import find_mentions
from tft_pipeline.sentiment.scoring import mentions, unscored
from tft_pipeline_tests.sentiment.posts import posts_of


def scores_of(hashes: pd.Series, *odds: tuple[float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(odds, columns=["bearish", "neutral", "bullish"]).assign(text_hash=list(hashes))


def test_a_mention_takes_its_texts_likeliest_mood():
    posts = posts_of("$AAPL and $BAC", "$AAPL down", "nothing")
    found = find_mentions(posts, ("AAPL", "BAC"))
    scores = scores_of(posts["text_hash"], (0.1, 0.2, 0.7), (0.5, 0.3, 0.2), (0.0, 1.0, 0.0))
    frame = mentions(found, scores, "s1")
    validate(frame, MENTIONS)
    assert frame[["post_id", "ticker", "label", "confidence"]].to_numpy().tolist() == [
        ["p0", "AAPL", "bullish", 0.7], ["p0", "BAC", "bullish", 0.7], ["p1", "AAPL", "bearish", 0.5],
    ]  # fmt: skip
    assert set(frame["scorer"]) == {"s1"}


def test_of_equals_neutral_wins():
    posts = posts_of("$AAPL")
    frame = mentions(find_mentions(posts, ("AAPL",)), scores_of(posts["text_hash"], (0.4, 0.4, 0.2)), "s1")
    assert frame["label"].tolist() == ["neutral"]


def test_only_what_lacks_a_score_is_asked_for_and_only_where_a_ticker_is_named():
    posts = posts_of("$AAPL", "$BAC", "$BAC", "nothing")
    found = find_mentions(posts, ("AAPL", "BAC"))
    assert unscored(found, scores_of(posts["text_hash"][:1], (0.0, 1.0, 0.0))) == [posts["text_hash"][1]]


def test_a_missing_or_doubled_score_is_refused_by_name():
    posts = posts_of("$AAPL")
    found = find_mentions(posts, ("AAPL",))
    with pytest.raises(ContractError, match=r"1 texts have no score of s1, first [0-9a-f]{64}"):
        mentions(found, scores_of(posts["text_hash"][:0]), "s1")
    with pytest.raises(ContractError, match="has two scores of s1"):
        mentions(found, scores_of([*posts["text_hash"]] * 2, (0, 1, 0), (1, 0, 0)), "s1")


def test_no_mentions_make_an_empty_frame_by_contract():
    found = find_mentions(posts_of(), ("AAPL",))
    frame = mentions(found, scores_of(pd.Series(dtype="str")), "s1")
    assert validate(frame, MENTIONS).empty
