"""Posts of the simulated crowd: how many, when, and in which mood they speak.

A bar's mood holds from its start to the next bar's start, nights and weekends included, and it leads the next bar's
return (simulated_prices.py). The louder the mood or the wilder the market, the more is said; what is said shows the
mood with noise.
What does not belong here: the sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tft_pipeline.sources import simulated_texts as texts
from tft_pipeline.sources.simulated_clock import HOUR_US, MINUTE_US, Clock, Floats, Times, stream

BULLISH, NEUTRAL, BEARISH = 0, 1, 2
_SENTENCES = 24  # of each mood that one ticker's crowd knows: few texts, so few scores to compute
_NIGHT = 0.12  # posts an hour while the market is closed, over those of a trading hour
_PAIRS, _COPIES = 0.04, 0.02  # shares of posts
_NO_TICKER_PER_BAR = 0.8


@dataclass(frozen=True)
class Posts:
    """Sorted by time. Arrays are (n_posts,)."""

    created_us: Times
    author: npt.NDArray[np.int32]  # the ticker spoken of; n_tickers: none
    number: npt.NDArray[np.int32]  # 0, 1, 2 … within the author
    copied: npt.NDArray[np.bool_]
    text: npt.NDArray[np.int32]  # index into `sentences`
    votes: npt.NDArray[np.int64]
    sentences: npt.NDArray[np.object_]


def generate(time: Clock, tickers: Sequence[str], *, seed: int, mood: Floats, activity: Floats) -> Posts:
    """Every post over `time`. mood, activity: (n_tickers, n_bars).

    A longer clock adds posts and changes none before its last bar.
    """
    edges = np.empty(2 * len(time) + 1, dtype=np.int64)  # a bar, the time up to the next, the next bar …
    edges[0:-1:2], edges[1::2] = time.start_us, time.end_us
    edges[-1] = time.end_us[-1]
    hours = np.diff(edges) / HOUR_US
    hours[1::2] *= _NIGHT
    crowds = [_crowd(seed, i, edges, hours, mood=mood[i], activity=activity[i]) for i in range(len(tickers))]
    crowds.append(_bystanders(seed, len(tickers), edges, hours))
    sentences = [_sentences(seed, i, tickers) for i in range(len(tickers))] + [list(texts.NO_TICKER)]
    offsets = np.cumsum([0, *map(len, sentences)])
    created = np.concatenate([crowd.created_us for crowd in crowds])
    order = np.argsort(created, kind="stable")  # ties keep the order of the tickers
    sizes = [len(crowd.created_us) for crowd in crowds]
    return Posts(
        created_us=created[order],
        author=np.repeat(np.arange(len(crowds), dtype=np.int32), sizes)[order],
        number=np.concatenate([crowd.number for crowd in crowds])[order],
        copied=np.concatenate([crowd.copied for crowd in crowds])[order],
        text=np.concatenate([crowd.text + offset for crowd, offset in zip(crowds, offsets, strict=False)])[order],
        votes=np.concatenate([crowd.votes for crowd in crowds])[order],
        sentences=np.array([text for own in sentences for text in own], dtype=object),
    )


@dataclass(frozen=True)
class _Crowd:
    """Posts of one author: an original and then perhaps its copy."""

    created_us: Times
    number: npt.NDArray[np.int32]
    copied: npt.NDArray[np.bool_]
    text: npt.NDArray[np.int32]
    votes: npt.NDArray[np.int64]


def _crowd(seed: int, ticker: int, edges: Times, hours: Floats, *, mood: Floats, activity: Floats) -> _Crowd:
    """Posts about one ticker. mood, activity: (n_bars,)."""
    loudness = stream(seed, "loudness", ticker).uniform(0.7, 1.3) if ticker > 1 else 1.5
    held, wild = np.repeat(mood, 2), np.repeat(activity, 2)
    rate = loudness * hours * (0.45 + 2.2 * np.abs(held) + 0.25 * np.minimum(wild, 3.0))
    where = np.repeat(np.arange(len(hours)), stream(seed, "posts", ticker).poisson(rate))
    label = _labels(stream(seed, "label", ticker).random(len(where)), held[where])
    sentence = stream(seed, "sentence", ticker).random((len(where), 2))
    paired = sentence[:, 0] < _PAIRS
    pair = (
        3 * _SENTENCES + len(texts.BULLISH_PAIRS) * label + (len(texts.BULLISH_PAIRS) * sentence[:, 1]).astype(np.int64)
    )
    single = _SENTENCES * label + (_SENTENCES * sentence[:, 1]).astype(np.int64)
    return _posted(seed, ticker, edges, where, np.where(paired, pair, single))


def _labels(draws: Floats, mood: Floats) -> npt.NDArray[np.int64]:
    """(n_posts,) BULLISH, NEUTRAL or BEARISH: at mood 0 bulls and bears are as many, at ±1 they are 19 to 1."""
    neutral = 0.45 - 0.3 * np.abs(mood)
    bullish = (1 - neutral) * (1 + 0.9 * mood) / 2
    return np.where(draws < bullish, BULLISH, np.where(draws < bullish + neutral, NEUTRAL, BEARISH))


def _bystanders(seed: int, author: int, edges: Times, hours: Floats) -> _Crowd:
    """Posts that name no ticker and know nothing."""
    where = np.repeat(np.arange(len(hours)), stream(seed, "posts", author).poisson(_NO_TICKER_PER_BAR * hours))
    sentence = stream(seed, "sentence", author).random(len(where))
    return _posted(seed, author, edges, where, (len(texts.NO_TICKER) * sentence).astype(np.int64))


def _posted(seed: int, author: int, edges: Times, where: Times, text: npt.NDArray[np.int64]) -> _Crowd:
    """Each post at some second of its stretch of time; a few are posted again by somebody else, minutes later."""
    n = len(where)
    start, length = edges[where], edges[where + 1] - edges[where]
    created = start + (stream(seed, "moment", author).random(n) * length).astype(np.int64) // 1_000_000 * 1_000_000
    votes = np.exp(1.2 + 1.1 * stream(seed, "votes", author).standard_normal(n)).astype(np.int64)
    copy = stream(seed, "copy", author).random((n, 2))
    copied = np.flatnonzero(copy[:, 0] < _COPIES)
    later = created[copied] + (1 + (90 * copy[copied, 1]).astype(np.int64)) * MINUTE_US
    number = np.arange(n, dtype=np.int32)
    return _Crowd(
        created_us=np.concatenate([created, later]),
        number=np.concatenate([number, number[copied]]),
        copied=np.repeat([False, True], [n, len(copied)]),
        text=np.concatenate([text, text[copied]]).astype(np.int32),
        votes=np.concatenate([votes, np.zeros(len(copied), dtype=np.int64)]),
    )


def _sentences(seed: int, ticker: int, tickers: Sequence[str]) -> list[str]:
    """What the crowd of one ticker can say: _SENTENCES of each mood, then the pairs of each mood."""
    own, other = tickers[ticker], tickers[(ticker + 1) % len(tickers)]
    chosen = stream(seed, "repertoire", ticker)
    templates = [
        moods[k]
        for moods in (texts.BULLISH, texts.NEUTRAL, texts.BEARISH)
        for k in chosen.permutation(len(moods))[:_SENTENCES]
    ]
    templates += [*texts.BULLISH_PAIRS, *texts.NEUTRAL_PAIRS, *texts.BEARISH_PAIRS]
    return [texts.filled(template, own, other) for template in templates]
