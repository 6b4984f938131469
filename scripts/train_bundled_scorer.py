"""Trains the head of the bundled scorer again and writes its figures into docs/sentiment-card.md.

    python scripts/train_bundled_scorer.py --data ../shared/data

Trained on two MIT-licensed sets only (see the card): the head ships in the package. Parts are told apart by SHA-1 of the normalised
text, so a copy never lies on both sides; nothing is chosen by a test part. About five minutes on two cores.
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tft_pipeline.sentiment.cleaning import clean  # noqa: E402
from tft_pipeline.sources.scorer_batches import harmless  # noqa: E402
from tft_pipeline.sources.scorer_minilm import (  # noqa: E402
    FEATURES,
    HEAD,
    MiniLmEncoder,
    MiniLmScorer,
    head_logits,
    masked,
    verified_encoder,
)
from tft_pipeline.sources.scorer_vader import VaderScorer  # noqa: E402

Scores = npt.NDArray[np.float64]
BEGIN, END = "<!-- metrics: written by scripts/train_bundled_scorer.py -->", "<!-- end of metrics -->"
MOODS = ("bearish", "neutral", "bullish")

MEMBERS, HIDDEN, EPOCHS, BATCH = 3, 32, 24, 256
LEARNING_RATE, WEIGHT_DECAY, LABEL_SMOOTHING = 1.5e-3, 0.05, 0.05
DROPOUT_IN, DROPOUT_HIDDEN = 0.3, 0.5
NEWS_SHARE = 0.5  # of the loss; within a set, each mood has a third


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder that holds the labelled sets"
    )
    options.add_argument("--output", type=Path, default=HEAD, help="where the head goes")
    options.add_argument(
        "--card", type=Path, default=ROOT / "docs" / "sentiment-card.md", help="whose table of figures is renewed"
    )
    options.add_argument("--only-report", action="store_true", help="measure the head that is there; train nothing")
    chosen = options.parse_args()
    torch.manual_seed(0)
    rows = labelled(chosen.data)
    if not chosen.only_report:
        train(rows, chosen.output)
    table = report(rows, chosen.data, chosen.output)
    if chosen.card.exists():
        text = chosen.card.read_text()
        head, _, rest = text.partition(BEGIN)
        chosen.card.write_text(head + BEGIN + "\n" + table + "\n" + END + rest.partition(END)[2])
    sys.stdout.write(table + "\n")


def labelled(data: Path) -> pd.DataFrame:
    """Both training sets and the news set's validation file: text, mood (index of MOODS), source, part, unanimous."""
    wsb = pd.read_parquet(data / "sent_wsbs_3class" / "wsb_full.parquet")
    unanimous = set(pd.read_parquet(data / "sent_wsbs_3class" / "wsb_all_agree.parquet")["text"])
    news = pd.read_parquet(data / "sent_twitter_fin_news" / "train.parquet")
    valid = pd.read_parquet(data / "sent_twitter_fin_news" / "valid.parquet")
    rows = pd.concat(
        [
            wsb.assign(mood=wsb["label"].map({0: 1, 1: 2, 2: 0}), source="wsb", unanimous=wsb["text"].isin(unanimous)),
            news.assign(mood=news["label"].map({0: 0, 1: 2, 2: 1}), source="news", unanimous=False),
            valid.assign(mood=valid["label"].map({0: 0, 1: 2, 2: 1}), source="news-valid", unanimous=False),
        ],
        ignore_index=True,
    )[["text", "mood", "source", "unanimous"]]
    rows["cleaned"] = [clean(text) for text in rows["text"]]
    normal = rows["cleaned"].map(lambda text: re.sub(r"\W+", " ", text.lower()).strip())
    bucket = normal.map(lambda text: int(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), 16) % 100)
    rows["part"] = np.select([bucket < 70, bucket < 80], ["train", "validation"], "test")
    held_out = set(normal[rows["source"] == "news-valid"])
    rows.loc[rows["source"] == "news-valid", "part"] = "test"
    return rows[(rows["source"] == "news-valid") | ~normal.isin(held_out)].reset_index(drop=True)


def train(rows: pd.DataFrame, output: Path) -> None:
    features = encoded(rows["cleaned"].tolist())
    mood = torch.tensor(rows["mood"].to_numpy())
    parts = {part: torch.tensor(np.flatnonzero(rows["part"] == part)) for part in ("train", "validation")}
    mean, deviation = features[parts["train"]].mean(dim=0), features[parts["train"]].std(dim=0).clamp(min=1e-3)
    members = [fitted((features - mean) / deviation, mood, rows, parts, seed) for seed in range(MEMBERS)]
    stacked = {name: torch.stack([member[name] for member in members]) for name in members[0]}
    head = {
        "in.mean": mean,
        "in.deviation": deviation,
        "in.weight": stacked["1.weight"].transpose(1, 2),  # (members, FEATURES, HIDDEN)
        "in.bias": stacked["1.bias"][:, None, :],
        "out.weight": stacked["4.weight"].transpose(1, 2),
        "out.bias": stacked["4.bias"][:, None, :],
        "temperature": torch.tensor(1.0),
    }
    judged = torch.tensor(np.flatnonzero((rows["part"] == "validation") & (rows["source"] == "wsb")))
    head["temperature"] = best_temperature(head_logits(head, features[judged]), mood[judged])
    output.parent.mkdir(parents=True, exist_ok=True)
    half = {
        name: (tensor.half() if name.endswith("weight") else tensor.float()).contiguous()
        for name, tensor in head.items()
    }
    save_file(half, output)
    output.chmod(0o644)


def encoded(cleaned: Sequence[str]) -> torch.Tensor:
    """(n_texts, FEATURES): exactly what the scorer's head will read."""
    encoder = MiniLmEncoder(verified_encoder(), max_tokens=128, batch_size=64)
    prepared = [masked(harmless(text), encoder.vocabulary) for text in cleaned]
    features = torch.empty(len(prepared), FEATURES)
    for part, values in encoder.features(prepared):
        features[part] = values
    return features


def fitted(
    standard: torch.Tensor, mood: torch.Tensor, rows: pd.DataFrame, parts: dict[str, torch.Tensor], seed: int
) -> dict[str, torch.Tensor]:
    """Weights of one small network at its best epoch on the validation parts of both sets."""
    torch.manual_seed(seed)
    network = torch.nn.Sequential(
        torch.nn.Dropout(DROPOUT_IN), torch.nn.Linear(FEATURES, HIDDEN), torch.nn.GELU(), torch.nn.Dropout(DROPOUT_HIDDEN),
        torch.nn.Linear(HIDDEN, 3),
    )  # fmt: skip
    news = torch.tensor((rows["source"] == "news").to_numpy())
    weight = torch.zeros(len(rows))
    for is_news, share in ((False, 1 - NEWS_SHARE), (True, NEWS_SHARE)):
        for one in range(3):
            chosen = parts["train"][(news[parts["train"]] == is_news) & (mood[parts["train"]] == one)]
            weight[chosen] = share / 3 * len(parts["train"]) / len(chosen)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(parts["train"]) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    best, kept = -1.0, {}
    for _ in range(EPOCHS):
        network.train()
        for batch in parts["train"][torch.randperm(len(parts["train"]))].split(BATCH):
            loss = torch.nn.functional.cross_entropy(
                network(standard[batch]), mood[batch], reduction="none", label_smoothing=LABEL_SMOOTHING
            )
            optimizer.zero_grad()
            (loss * weight[batch]).mean().backward()
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            said = network(standard[parts["validation"]]).argmax(dim=1)
        of_news = news[parts["validation"]]
        score = sum(
            macro_f1(mood[parts["validation"]][of_news == s].numpy(), said[of_news == s].numpy()) for s in (False, True)
        )
        if score > best:
            best, kept = score, {name: value.clone() for name, value in network.state_dict().items()}
    return kept


def best_temperature(logits: torch.Tensor, mood: torch.Tensor) -> torch.Tensor:
    """The divisor of the logits, (n, 3), that makes the validation part likeliest (Guo et al. 2017)."""
    grid = torch.linspace(0.3, 4.0, 371)
    losses = torch.stack([torch.nn.functional.cross_entropy(logits / t, mood) for t in grid])
    return grid[losses.argmin()]


def report(rows: pd.DataFrame, data: Path, head: Path) -> str:
    """The card's table: each scorer on each set's test part, and on sets that are only ever tested on."""
    sets = {
        "WSB": rows[(rows["source"] == "wsb") & (rows["part"] == "test")],
        "WSB, unanimous": rows[(rows["source"] == "wsb") & (rows["part"] == "test") & rows["unanimous"]],
        "Twitter financial news, validation file": rows[rows["source"] == "news-valid"],
        **only_tested(data),
    }
    common = {name: int(part["mood"].mode()[0]) for name, part in sets.items()}
    scorers = {
        "VADER": VaderScorer(lexicon=False),
        "VADER with our lexicon": VaderScorer(),
        "bundled": MiniLmScorer(head=head),
    }
    lines = [
        "| scorer | " + " | ".join(f"{name} ({len(part)})" for name, part in sets.items()) + " |",
        "| --- |" + " --- |" * len(sets),
    ]
    lines.append(
        "| majority class | "
        + " | ".join(shown(part, one_hot(common[name], len(part))) for name, part in sets.items())
        + " |"
    )
    for name, scorer in scorers.items():
        said = {which: scorer.score(part["cleaned"].tolist()) for which, part in sets.items()}
        lines.append(f"| {name} | " + " | ".join(shown(sets[which], scores) for which, scores in said.items()) + " |")
        if name == "bundled":
            part, scores = sets["WSB"], said["WSB"]
            truth = part["mood"].to_numpy()
            flipped = float(np.mean(np.abs(scores.argmax(axis=1) - truth) == 2))
            note = (
                f"\nAccuracy / macro-F1, with the 95 % bootstrap interval of macro-F1. On WSB the bundled scorer takes bullish for bearish "
                f"or the reverse in {flipped:.1%} of texts; its calibration error (ECE, 15 bins) is {calibration_error(truth, scores):.3f}."
            )
    return "\n".join(lines) + "\n" + note


def only_tested(data: Path) -> dict[str, pd.DataFrame]:
    """Sets whose licence forbids to ship what was trained on them: tested on, never trained on."""
    of_three = {"negative": 0, "neutral": 1, "positive": 2}
    fiqa = pd.read_parquet(data / "sent_fiqa_semeval" / "fiqa_microblog_posts.parquet")
    stock = pd.read_parquet(data / "sent_stockemotions_2020" / "stockemotions.parquet")
    stock = stock[stock["split"] == "test"]
    return {
        "FiQA posts": pd.DataFrame(
            {"cleaned": [clean(t) for t in fiqa["text"]], "mood": fiqa["label3"].map(of_three).to_numpy()}
        ),
        "StockEmotions test, no neutral class": pd.DataFrame(
            {
                "cleaned": [clean(t) for t in stock["original"]],
                "mood": stock["senti_label"].map({"bearish": 0, "bullish": 2}).to_numpy(),
            }
        ),
    }


def shown(part: pd.DataFrame, scores: Scores) -> str:
    truth = part["mood"].to_numpy()
    if 1 not in truth:  # two classes: the likelier of the two
        scores = scores * np.array([1.0, 0.0, 1.0])
    said = scores.argmax(axis=1)
    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, len(truth), len(truth)) for _ in range(500)]
    low, high = np.quantile([macro_f1(truth[d], said[d]) for d in drawn], [0.025, 0.975])
    return f"{np.mean(said == truth):.3f} / {macro_f1(truth, said):.3f} ({low:.3f}–{high:.3f})"


def macro_f1(truth: npt.NDArray[np.int64], said: npt.NDArray[np.int64]) -> float:
    """Mean F1 over the moods that occur in truth."""
    each = []
    for one in np.unique(truth):
        hit = np.sum((truth == one) & (said == one))
        each.append(2 * hit / (np.sum(truth == one) + np.sum(said == one)))
    return float(np.mean(each))


def calibration_error(truth: npt.NDArray[np.int64], scores: Scores, bins: int = 15) -> float:
    """Expected calibration error: mean gap of confidence and accuracy over equal bins of confidence."""
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        np.sum(which == b) * abs(right[which == b].mean() - confidence[which == b].mean()) for b in np.unique(which)
    ]
    return float(np.sum(gaps) / len(truth))


def one_hot(mood: int, n_rows: int) -> Scores:
    return np.tile(np.eye(3)[mood], (n_rows, 1))


if __name__ == "__main__":
    main()
