"""The honest cheap baseline: VADER (Hutto, Gilbert 2014) with a small lexicon of what traders say. No model, no training."""

from collections.abc import Sequence

import numpy as np

from tft_pipeline.sources.scorer_batches import Probabilities, Progress, harmless, score_once

LEXICON_VERSION = 1
# Valence on VADER's scale from -4 to 4. Single words: VADER matches no phrases here.
FINANCE_LEXICON: dict[str, float] = {
    "moon": 2.5, "mooning": 3.0, "rocket": 2.5, "bullish": 3.0, "bull": 1.8, "bulls": 1.8, "calls": 1.5, "call": 0.8, "long": 0.8,
    "buy": 1.5, "buying": 1.5, "bought": 1.2, "undervalued": 2.2, "cheap": 1.2, "breakout": 2.0, "rally": 2.0, "rallying": 2.2,
    "rip": 1.5, "ripping": 2.2, "soar": 2.5, "soars": 2.5, "soaring": 2.5, "surge": 2.2, "surges": 2.2, "jumps": 1.8, "gains": 2.0,
    "green": 1.5, "tendies": 2.5, "squeeze": 1.5, "diamond": 2.0, "hodl": 1.8, "hold": 0.8, "holding": 0.8, "upgrade": 2.0,
    "upgraded": 2.0, "upgrades": 2.0, "outperform": 2.2, "beat": 1.5, "beats": 1.8, "raised": 1.0, "raises": 1.2, "buyback": 1.8,
    "printing": 1.5, "up": 0.8, "higher": 1.2, "highs": 1.5, "yolo": 1.2, "stonks": 1.5,
    "bearish": -3.0, "bear": -1.8, "bears": -1.8, "puts": -1.8, "put": -0.6, "short": -1.5, "shorting": -2.0, "shorted": -1.5,
    "sell": -1.5, "selling": -1.5, "sold": -1.2, "dump": -2.2, "dumping": -2.4, "dumped": -2.2, "crash": -3.2, "crashing": -3.2,
    "crashes": -3.0, "tank": -2.6, "tanking": -2.8, "tanked": -2.6, "drill": -2.0, "drilling": -2.2, "overvalued": -2.2,
    "bubble": -1.8, "bagholder": -2.4, "bagholders": -2.4, "bagholding": -2.4, "bags": -1.5, "red": -1.5, "recession": -2.6,
    "bankruptcy": -3.4, "bankrupt": -3.4, "dilution": -2.2, "downgrade": -2.2, "downgraded": -2.2, "downgrades": -2.2,
    "underperform": -2.2, "misses": -1.8, "missed": -1.5, "falls": -1.8, "drops": -1.8, "drop": -1.6, "plunge": -2.8,
    "plunges": -2.8, "slumps": -2.4, "lower": -1.2, "lows": -1.5, "cuts": -1.2, "down": -1.0, "rug": -1.8, "rekt": -2.6, "guh": -2.4,
    "worthless": -2.8, "collapse": -2.8, "toast": -1.8, "clown": -1.2,
}  # fmt: skip

# Chosen so that the likeliest mood is VADER's own verdict: bullish from a compound of 0.05 on, bearish from -0.05 down.
_SLOPE = 4.0
_NEUTRAL_LOGIT = 0.05 * _SLOPE


class VaderScorer:
    """Words with valences, summed. Its probabilities are VADER's compound put into a softmax: ordered, but not calibrated."""

    def __init__(self, *, lexicon: bool = True) -> None:
        """lexicon: add FINANCE_LEXICON to VADER's own words."""
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._analyzer = SentimentIntensityAnalyzer()
        if lexicon:
            self._analyzer.lexicon.update(FINANCE_LEXICON)
        self.scorer_id = f"vader-3.3.2+finance-{LEXICON_VERSION}" if lexicon else "vader-3.3.2"

    def score(self, texts: Sequence[str], *, on_progress: Progress | None = None) -> Probabilities:
        """(n_texts, 3) probabilities: bearish, neutral, bullish; rows sum to 1. Empty texts are neutral."""
        return score_once(texts, self._score_distinct, harmless, on_progress)

    def _score_distinct(self, texts: list[str], on_progress: Progress) -> Probabilities:
        compound = np.empty(len(texts), dtype=np.float64)
        for row, text in enumerate(texts):
            compound[row] = self._analyzer.polarity_scores(text)["compound"]
            if row % 1000 == 999:
                on_progress(row + 1, len(texts))
        on_progress(len(texts), len(texts))
        neutral = np.full_like(compound, _NEUTRAL_LOGIT)
        odds: Probabilities = np.exp(np.column_stack([-_SLOPE * compound, neutral, _SLOPE * compound]))
        odds /= odds.sum(axis=1, keepdims=True)
        return odds
