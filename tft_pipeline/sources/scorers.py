"""Opens the scorer that the settings name. Each has a module of its own; heavy libraries load only with the one that needs them."""

from tft_pipeline.config import SentimentSettings
from tft_pipeline.sources.protocols import Scorer


def open_scorer(settings: SentimentSettings) -> Scorer:
    """`bundled`: the shipped transformer, no network. `vader`: a word list. Anything else: a hub model's name or a folder.

    Raises SourceError: what the scorer needs is missing, damaged, or cannot be fetched.
    """
    if settings.scorer == "vader":
        from tft_pipeline.sources.scorer_vader import VaderScorer

        return VaderScorer()
    if settings.scorer == "bundled":
        from tft_pipeline.sources.scorer_minilm import MiniLmScorer

        return MiniLmScorer(max_tokens=settings.max_tokens, batch_size=settings.batch_size)
    from tft_pipeline.sources.scorer_hub import HubScorer

    return HubScorer(settings.scorer, max_tokens=settings.max_tokens, batch_size=settings.batch_size)
