"""Any text classifier of the Hugging Face hub, or of a folder: fetched once, safetensors only, none of its code is run."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tft_pipeline.errors import SourceError
from tft_pipeline.sources.scorer_batches import Batch, Probabilities, Progress, batches, harmless, score_once
from tft_pipeline.sources.scorer_threads import side_by_side

MOODS = ("bearish", "neutral", "bullish")
_MOOD_OF_LABEL = {
    "bearish": "bearish", "negative": "bearish", "neg": "bearish", "sell": "bearish",
    "neutral": "neutral", "none": "neutral", "neu": "neutral", "hold": "neutral",
    "bullish": "bullish", "positive": "bullish", "pos": "bullish", "buy": "bullish",
}  # fmt: skip
_NAME = re.compile(r"^[\w.\-]+(?:/[\w.\-]+)?(?:@[\w.\-]+)?$")


class HubScorer:
    """A sequence classifier whose `id2label` names moods."""

    def __init__(self, model: str, *, max_tokens: int = 128, batch_size: int = 64) -> None:
        """model: `owner/name`, `owner/name@revision`, or a folder that holds config, tokenizer and model.safetensors.

        Raises SourceError: it cannot be had, has no safetensors, or its labels name no moods.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = Path(model)
        local = folder.is_dir()
        if not local and not _NAME.match(model):
            raise SourceError(
                f"setting TFT_SENTIMENT_SCORER: {model!r} is neither a folder nor a model's name; use bundled, vader, "
                "owner/name or owner/name@revision."
            )
        name, _, revision = (model, "", "") if local else model.partition("@")
        options: dict[str, Any] = {
            "revision": revision or "main",
            "trust_remote_code": False,
            "local_files_only": local,
        }
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name, **options)
            self._model: Any = AutoModelForSequenceClassification.from_pretrained(
                name, use_safetensors=True, **options
            ).eval()
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise SourceError(
                f"the sentiment model {model!r} cannot be opened ({_first_line(error)}); check its name, that it has "
                "model.safetensors, and the network, or set TFT_SENTIMENT_SCORER=bundled."
            ) from None
        self._columns = _columns(self._model.config.id2label, model)
        longest = int(getattr(self._model.config, "max_position_embeddings", 0) or max_tokens)
        # RoBERTa counts positions from its padding id on, so its last two cannot be used.
        self._max_tokens = min(max_tokens, longest - 2)
        self._batch_size = batch_size
        version = (
            _content(folder) if local else str(getattr(self._model.config, "_commit_hash", None) or revision or "main")
        )
        self.scorer_id = f"{folder.name if local else name}@{version[:12]}-t{self._max_tokens}"

    def score(self, texts: Sequence[str], *, on_progress: Progress | None = None) -> Probabilities:
        """(n_texts, 3) probabilities: bearish, neutral, bullish; rows sum to 1. Empty texts are neutral.

        A model of two labels has a neutral column of zeros.
        """
        return score_once(texts, self._score_distinct, harmless, on_progress)

    def _score_distinct(self, texts: list[str], on_progress: Progress) -> Probabilities:
        token_ids: list[list[int]] = self._tokenizer(texts, truncation=True, max_length=self._max_tokens)["input_ids"]
        blank: list[int] = self._tokenizer("", truncation=True, max_length=self._max_tokens)["input_ids"] or [0]
        pad = int(self._tokenizer.pad_token_id or 0)
        made = batches(token_ids, blank=blank, pad=pad, max_rows=self._batch_size, widest=self._max_tokens)
        result = np.zeros((len(texts), 3), dtype=np.float64)
        done = 0
        for rows, probabilities in side_by_side(self._labelled, made):
            for label, column in enumerate(self._columns):
                result[rows, column] += probabilities[:, label]
            done += len(rows)
            on_progress(done, len(texts))
        return result

    @torch.inference_mode()
    def _labelled(self, batch: Batch) -> tuple[list[int], Probabilities]:
        """(n_rows, n_labels) probabilities of the texts of one batch."""
        logits = self._model(input_ids=torch.from_numpy(batch.ids), attention_mask=torch.from_numpy(batch.mask)).logits
        return batch.rows, torch.softmax(logits.double(), dim=1).numpy()[: len(batch.rows)]


def _columns(id2label: dict[int, str], model: str) -> list[int]:
    """Column of MOODS for each of the model's labels."""
    moods = [_MOOD_OF_LABEL.get(str(id2label[index]).strip().lower()) for index in sorted(id2label)]
    named = [mood for mood in moods if mood is not None]
    if len(named) != len(moods) or not {"bearish", "bullish"} <= set(named):
        raise SourceError(
            f"the sentiment model {model!r} has labels {list(id2label.values())}; it needs ones that name moods, such as "
            "positive, neutral, negative. Set id2label in its config.json or take another model."
        )
    return [MOODS.index(mood) for mood in named]


def _content(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        digest.update(file.name.encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
