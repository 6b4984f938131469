"""Which tickers a post speaks of: cashtags ($AAPL), bare tickers (AAPL) and company names (Apple).

What belongs here: recognising a ticker in one text. A post is judged by its own words alone, never by its neighbours', so a later
post cannot change what an earlier one said. What does not: its mood.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from tft_pipeline.schema import UTC
from tft_pipeline.sentiment.cleaning import clean
from tft_pipeline.sentiment.companies import COMPANY_NAMES
from tft_pipeline.sentiment.words import NOT_BARE

FOUND = ["channel", "post_id", "created_at", "known_at", "text_hash", "ticker", "method"]
_RANK = {"cashtag": 0, "bare": 1, "name": 2}

_CASHTAG = re.compile(r"(?<![\w$])\$([A-Za-z][A-Za-z0-9]{0,9}(?:[.\-][A-Za-z]{1,4})?)(?!\w)")
_BARE = re.compile(r"(?<![\w$&@])(?<!\br/)((?:NASDAQ|NYSE|AMEX) ?: ?)?([A-Z][A-Z0-9]{1,9}(?:[.\-][A-Z]{1,4})?)(?!\w)")
_WORD = re.compile(r"[A-Za-z]{2,}")
_SHOUTED_WORDS, _SHOUTED_SHARE = 3, 0.6


def find_mentions(
    posts: pd.DataFrame, universe: Sequence[str], names: Mapping[str, tuple[str, ...]] | None = None
) -> pd.DataFrame:
    """Each ticker of the universe that each post speaks of, once, by the surest method: cashtag, then bare, then name.

    posts: contracts.POSTS. names: {ticker: what it is called}; None: companies.COMPANY_NAMES. A name in lower case is met in any
    case, one with capitals only as written. Returns FOUND, (n_mentions, 7), sorted by key, times in UTC.
    A bare ticker counts if it has two letters or more, is not in words.NOT_BARE (unless an exchange stands before it: NYSE: ALL),
    and, where the post shouts, only if it is a company known by name: among capitals a ticker cannot be told from a word.
    """
    finder = _Finder(universe, COMPANY_NAMES if names is None else names)
    texts = posts[["text_hash", "text"]].drop_duplicates("text_hash")
    rows = [
        (text_hash, ticker, method)
        for text_hash, text in zip(texts["text_hash"], texts["text"], strict=True)
        for ticker, method in finder.found(clean(text)).items()
    ]
    hits = pd.DataFrame(rows, columns=["text_hash", "ticker", "method"]).astype("str")
    found = posts[["channel", "post_id", "created_at", "known_at", "text_hash"]].merge(hits, on="text_hash")
    found = found.astype({"created_at": UTC, "known_at": UTC})[FOUND]
    return found.sort_values(["channel", "post_id", "created_at", "ticker"], kind="stable", ignore_index=True)


class _Finder:
    """One universe's tickers and names, ready for many texts."""

    def __init__(self, universe: Sequence[str], names: Mapping[str, tuple[str, ...]]) -> None:
        self._tickers = {ticker.upper(): ticker for ticker in universe}
        for ticker in universe:  # BRK.B is also written BRK-B and BRKB
            for between in ("", ".", "-"):
                self._tickers.setdefault(re.sub(r"[.\-]", between, ticker.upper()), ticker)
        self._by_name: dict[str, str] = {}
        for ticker in universe:
            for name in names.get(ticker, names.get(ticker.replace("-", "."), ())):
                self._by_name.setdefault(name, ticker)
        self._called = set(self._by_name.values())
        exact = [name for name in self._by_name if name != name.lower()]
        any_case = [name for name in self._by_name if name == name.lower()]
        self._exact = _any_of(exact)
        self._any_case = _any_of(any_case)

    def found(self, text: str) -> dict[str, str]:
        """{ticker: method} of one cleaned text."""
        best: dict[str, str] = {}
        for ticker, method in self._candidates(text):
            if ticker not in best or _RANK[method] < _RANK[best[ticker]]:
                best[ticker] = method
        return best

    def _candidates(self, text: str) -> Iterator[tuple[str, str]]:
        if "$" in text:
            for match in _CASHTAG.finditer(text):
                for ticker in self._known(match[1].upper()):
                    yield ticker, "cashtag"
        shouted: bool | None = None
        for match in _BARE.finditer(text):
            for word in _parts(match[2], self._tickers):
                if word not in self._tickers or len(word) < 2 or (word in NOT_BARE and not match[1]):
                    continue
                if shouted is None:
                    shouted = self._shouts(text)
                if not shouted or self._tickers[word] in self._called:
                    yield self._tickers[word], "bare"
        if self._exact:
            for name in self._exact.findall(text):
                yield self._by_name[name], "name"
        if self._any_case:
            for name in self._any_case.findall(text.lower()):
                yield self._by_name[name], "name"

    def _known(self, written: str) -> Iterator[str]:
        for word in _parts(written, self._tickers):
            if word in self._tickers:
                yield self._tickers[word]

    def _shouts(self, text: str) -> bool:
        """Whether most words that are no tickers are in capitals."""
        words: list[str] = [word for word in _WORD.findall(text) if word not in self._tickers or word in NOT_BARE]
        loud = sum(word.isupper() for word in words)
        return loud >= _SHOUTED_WORDS and loud >= _SHOUTED_SHARE * len(words)


def _parts(written: str, tickers: Mapping[str, str]) -> list[str]:
    """BTC-USD is one ticker if the universe has it, SPY-QQQ two otherwise; ECA.TO is not ECA."""
    return [written] if written in tickers or "-" not in written else written.split("-")


def _any_of(names: list[str]) -> re.Pattern[str] | None:
    if not names:
        return None
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile(r"(?<![\w$@/])(?:" + "|".join(map(re.escape, longest_first)) + r")(?!\w|\.\w)")
