"""Texts to batches of a fixed shape for a transformer, and hostile text made harmless on the way.

Every batch of one width has the same number of rows, filled up with blanks: then a matrix product takes the same path whatever
else is in the batch, and a text's score does not depend on its neighbours.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Progress = Callable[[int, int], None]
Probabilities = npt.NDArray[np.float64]

TOKENS_PER_BATCH = 512  # the fastest of 512, 1024, 2048 and 4096 on two cores: what it touches stays in the cache
NARROWEST, STEP = 16, 8
MAX_CHARACTERS = 4_000  # more than 512 tokens of English
NEUTRAL = (0.0, 1.0, 0.0)  # what an empty text scores

_JUNK = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")


@dataclass(frozen=True)
class Batch:
    """rows: index of each text in what was given. ids, mask: (n_rows of this width, width), blanks below the texts."""

    rows: list[int]
    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.int64]


def harmless(text: str) -> str:
    """text without control characters and lone surrogates, no longer than any model reads."""
    return _JUNK.sub(" ", text[:MAX_CHARACTERS]).strip()


def batches(
    token_ids: Sequence[Sequence[int]], *, blank: Sequence[int], pad: int, max_rows: int, widest: int
) -> Iterator[Batch]:
    """Texts of like length together, shortest first; widths are multiples of 8, at most TOKENS_PER_BATCH tokens or one text.

    token_ids: n_texts lists of at most `widest` ids. blank: ids of an empty text, for the rows that fill a batch up.
    """
    by_width: dict[int, list[int]] = {}
    for index, ids in enumerate(token_ids):
        width = min(max(NARROWEST, -(-len(ids) // STEP) * STEP), max(widest, NARROWEST))
        by_width.setdefault(width, []).append(index)
    for width, members in sorted(by_width.items()):
        n_rows = max(1, min(max_rows, TOKENS_PER_BATCH // width))
        for start in range(0, len(members), n_rows):
            rows = members[start : start + n_rows]
            ids_array = np.full((n_rows, width), pad, dtype=np.int64)
            mask = np.zeros((n_rows, width), dtype=np.int64)
            for line in range(n_rows):
                ids = token_ids[rows[line]] if line < len(rows) else blank
                ids_array[line, : len(ids)] = ids
                mask[line, : len(ids)] = 1
            yield Batch(rows, ids_array, mask)


def score_once(
    texts: Sequence[str],
    score_distinct: Callable[[list[str], Progress], Probabilities],
    prepare: Callable[[str], str],
    on_progress: Progress | None,
) -> Probabilities:
    """(n_texts, 3): each distinct prepared text scored once, empty ones neutral. on_progress counts distinct texts."""
    prepared = [prepare(text) for text in texts]
    distinct = sorted({text for text in prepared if text})
    position = {text: row for row, text in enumerate(distinct)}
    table = np.empty((len(distinct) + 1, 3), dtype=np.float64)
    table[-1] = NEUTRAL
    if distinct:
        table[:-1] = score_distinct(distinct, on_progress or (lambda _done, _total: None))
    return table[[position.get(text, -1) for text in prepared]]
