import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tft_pipeline.sentiment.cleaning import MAX_CHARACTERS, clean, text_hash


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("![img](emote|t5_2th52|4271)![img](emote|t5_2th52|4271) puts got bent", "puts got bent"),
        ("read [my DD](https://example.org/a_(b)) now", "read my DD) now"),
        ("**Buy** ~~sell~~ `now` ^(small)", "Buy sell now (small)"),
        ("> quoted\n\n# Title\n* one\n- two", "quoted Title one two"),
        ("AT&amp;T &gt; &amp;#x200B;Verizon", "AT&T > Verizon"),
        ("RT @trader: $AAPL up https://t.co/abc", "$AAPL up"),
        ("thanks @someone and u/other, see r/stocks", "thanks and , see r/stocks"),
        ("[deleted]", ""),
        ("[removed by reddit]", ""),
        ("  a \n\t b\u00a0c ", "a b c"),
        ("I’m “long” – a lot", 'I\'m "long" - a lot'),
        ("soooooo good!!!!!!", "sooo good!!!"),
        ("it cost 10000000 dollars", "it cost 10000000 dollars"),
        ("snake_case stays, _this_ not", "snake_case stays, this not"),
    ],
)
def test_markup_links_and_names_go_and_words_stay(raw, cleaned):
    assert clean(raw) == cleaned


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("to the moon 🚀", "to the moon rocket"),
        ("🚀🚀🚀🚀🚀", "rocket rocket"),
        ("💎🙌🏿", "diamond hands"),
        ("going 📉", "going stock going down"),
        ("I ❤️ it", "I love it"),
        ("🇺🇸 first", "first"),
        ("a 🥑", "a avocado"),
        ("𝐁𝐔𝐘 ＮＯＷ", "BUY NOW"),
    ],
)
def test_emoji_become_words_a_model_knows(raw, cleaned):
    assert clean(raw) == cleaned


def test_case_stays_because_tickers_are_told_by_it():
    assert clean("AAPL and apple") == "AAPL and apple"
    assert text_hash(clean("ALL in")) != text_hash(clean("all in"))


def test_copies_that_differ_in_link_or_retweet_share_a_hash():
    assert text_hash(clean("RT @a: $BAC up http://t.co/1")) == text_hash(clean("$BAC   up https://t.co/2"))


def test_the_hash_is_sha256_of_the_cleaned_text():
    assert text_hash("abc") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize(
    "hostile",
    [
        "a" * 10_000_000, "\u0300" * 1_000_000, "é" * 1_000_000, "[" * 100_000, "![" * 50_000, "[a](" * 50_000, "&amp;" * 100_000,
        "*_~`" * 50_000, "ab " * 50_000, "> " * 50_000, "http://" * 50_000, "@" * 100_000, "🚀" * 100_000, "a b c d " * 50_000,
    ],
)  # fmt: skip
def test_megabytes_of_anything_are_cut_in_no_time(hostile):
    begin = time.process_time()
    assert len(clean(hostile)) <= MAX_CHARACTERS
    assert time.process_time() - begin < 1.0


def test_nul_surrogates_and_piled_up_accents_are_dropped():
    assert clean("a\x00b\ud800c z̷̧̛a̸l̶g̵o\u200b") == "a bc zalgo"


def test_a_long_text_ends_with_a_whole_word():
    words = clean("".join(f"w{i} " for i in range(1500))).split()
    assert words == [f"w{i}" for i in range(len(words))]


@given(st.text(alphabet=st.characters(), max_size=300))
def test_whatever_comes_in_something_storable_comes_out(text):
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert "\x00" not in cleaned
    assert cleaned == cleaned.strip()
    assert len(text_hash(cleaned)) == 64
