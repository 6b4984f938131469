import time

import pandas as pd
import pytest

from tft_pipeline.sentiment.companies import COMPANY_NAMES
from tft_pipeline.sentiment.mentions import FOUND, find_mentions
from tft_pipeline.sentiment.words import NOT_BARE
from tft_pipeline_tests.sentiment.posts import posts_of

UNIVERSE = (
    "AAPL",
    "ALL",
    "BAC",
    "BRK.B",
    "BTC-USD",
    "C",
    "DD",
    "F",
    "GME",
    "GOOG",
    "GOOGL",
    "IT",
    "MSFT",
    "NOW",
    "SPY",
    "T",
    "XYZW",
)


def found(text: str, universe: tuple[str, ...] = UNIVERSE) -> dict[str, str]:
    frame = find_mentions(posts_of(text), universe)
    return dict(zip(frame["ticker"], frame["method"], strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$AAPL to the moon", {"AAPL": "cashtag"}),
        ("$aapl and $Msft.", {"AAPL": "cashtag", "MSFT": "cashtag"}),
        ("all in on AAPL, MSFT's next", {"AAPL": "bare", "MSFT": "bare"}),
        ("#AAPL (NASDAQ:MSFT)", {"AAPL": "bare", "MSFT": "bare"}),
        ("AAPL/MSFT pair, SPY-GME too", {"AAPL": "bare", "MSFT": "bare", "SPY": "bare", "GME": "bare"}),
        ("BofA says sell", {"BAC": "name"}),
        ("Bank of America beats", {"BAC": "name"}),
        ("Apple's new phone", {"AAPL": "name"}),
        ("apple stock is cheap", {"AAPL": "name"}),
        ("an apple a day", {}),
        ("AT&amp;T cuts", {"T": "name"}),
        ("$BRK.B and BRK-B and $brkb", {"BRK.B": "cashtag"}),
        ("berkshire buys", {"BRK.B": "name"}),
        ("BTC-USD rips, $BTC-USD", {"BTC-USD": "cashtag"}),
        ("I sold IT ALL NOW, what a DD", {}),
        ("$IT $ALL $NOW $DD", {"IT": "cashtag", "ALL": "cashtag", "NOW": "cashtag", "DD": "cashtag"}),
        ("Allstate (NYSE: ALL)", {"ALL": "bare"}),
        ("C is a letter, F in chat, $F and $C not", {"F": "cashtag", "C": "cashtag"}),
        ("it cost $100 and U$D, a $5C note", {}),
        ("$AAPL.TO trades in Toronto", {}),
        ("AAPLX, xAAPL, AAPL_2 and @AAPL are others", {}),
        ("r/GME is a forum", {}),
        ("see https://example.org/AAPL?x=MSFT", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_tickers_are_told_from_words(text, expected):
    assert found(text) == expected


def test_the_surest_method_wins_and_a_ticker_counts_once_a_post():
    assert found("Apple, AAPL and again $AAPL $AAPL") == {"AAPL": "cashtag"}
    assert found("Apple and AAPL") == {"AAPL": "bare"}


def test_among_capitals_only_companies_known_by_name_count():
    assert found("GME TO THE MOON XYZW") == {"GME": "bare"}
    assert found("BUY MORE STONKS XYZW") == {}
    assert found("buy more stonks XYZW") == {"XYZW": "bare"}
    assert found("AAPL MSFT GME XYZW") == {"AAPL": "bare", "MSFT": "bare", "GME": "bare", "XYZW": "bare"}


def test_company_names_are_lists_not_letters():
    assert all(isinstance(names, tuple) and min(map(len, names)) > 1 for names in COMPANY_NAMES.values())
    assert found("American Express and Boeing", ("AXP", "BA")) == {"AXP": "name", "BA": "name"}


def test_google_is_one_company_even_with_two_tickers():
    assert len(found("google it")) == 1


def test_only_the_universe_counts():
    assert found("$TSLA Tesla TSLA") == {}
    assert find_mentions(posts_of("$TSLA"), ()).empty


def test_names_can_be_given():
    frame = find_mentions(posts_of("Acorn is up, an acorn"), ("SIMA",), {"SIMA": ("Acorn",)})
    assert frame[["ticker", "method"]].to_numpy().tolist() == [["SIMA", "name"]]


def test_every_post_keeps_its_own_times_and_copies_are_all_found():
    posts = posts_of("$AAPL up", "nothing", "$AAPL up")
    frame = find_mentions(posts, UNIVERSE)
    assert list(frame.columns) == FOUND
    assert frame["post_id"].tolist() == ["p0", "p2"]
    assert frame["known_at"].tolist() == posts["known_at"].iloc[[0, 2]].tolist()


def test_no_posts_give_no_mentions_of_the_right_types():
    frame = find_mentions(posts_of(), UNIVERSE)
    assert list(frame.columns) == FOUND
    assert frame.empty
    assert str(frame["known_at"].dtype) == "datetime64[us, UTC]"


def test_later_posts_change_nothing_about_earlier_ones():
    first = find_mentions(posts_of("XYZW soon"), UNIVERSE)
    both = find_mentions(posts_of("XYZW soon", *["what is xyzw, xyzw, xyzw?"] * 9), UNIVERSE)
    pd.testing.assert_frame_equal(first, both[both["post_id"] == "p0"].reset_index(drop=True))


def test_the_word_list_holds_what_was_seen_to_go_wrong():
    assert {"DD", "CEO", "RC", "RH", "EDIT", "UK", "EV", "IT", "ON", "ALL", "ARE", "YOLO"} <= NOT_BARE
    assert not {"AAPL", "GME", "SPY", "AMC", "TSLA", "PLTR", "BAC", "IBM", "AIG"} & NOT_BARE
    assert set(COMPANY_NAMES) & NOT_BARE == {"CAT", "COIN", "COST", "HD", "SHOP", "SNAP", "SPOT", "UPS"}


@pytest.mark.shared
def test_a_hundred_thousand_real_posts_take_seconds(shared_data):
    posts = pd.read_parquet(shared_data / "real" / "us5_2013_2016" / "posts.parquet").head(10_000)
    posts = posts.rename(columns={"id": "post_id"}).assign(
        known_at=posts["created_at"], text_hash=posts["id"].astype("str")
    )
    begin = time.process_time()
    frame = find_mentions(posts, ("AAPL", "AIG", "BAC", "IBM", "SPY"))
    assert time.process_time() - begin < 2.0  # 0.4 s when nobody disturbs
    assert (frame["method"] == "cashtag").mean() > 0.9
