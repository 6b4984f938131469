"""Massive's answers to bars and corporate actions. Pure: no request is made here.

Massive gives prices as traded (adjusted=false) and dividends as they were paid, so no split has to be taken back. Bars without a trade
are absent. What cannot be read is left out and counted in a sentence; what reads well and makes no sense is for the quality rules.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.sources._resampling import joined
from tft_pipeline.sources._sessions import HOUR_SECONDS, Hours, Seconds
from tft_pipeline.sources._yahoo_chart import Action, Quotes

MINUTE_SECONDS = 60

_FIELDS = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
_PRICES = ("open", "high", "low", "close")
_YEAR_3000_MS = 32_503_680_000_000

Floats = npt.NDArray[np.float64]


class DamagedAnswerError(Exception):
    """The answer is none of what was asked for."""


@dataclass(frozen=True)
class Served:
    """One or more pages of bars: columns of (n,) arrays in the order served, and how many rows were left out, by reason."""

    start: Seconds
    columns: dict[str, Floats]
    left_out: Counter[str]

    def __len__(self) -> int:
        return len(self.start)


def served(results: object) -> Served:
    """The bars of one page. Raises DamagedAnswerError where its results are no list."""
    rows = [row if isinstance(row, dict) else {} for row in listed(results)]
    moments = _numbers(row.get("t") for row in rows)
    columns = {name: _numbers(row.get(short) for row in rows) for name, short in _FIELDS.items()}
    whole = np.isfinite(moments) & np.isfinite(list(columns.values())).all(axis=0)
    at_a_minute = whole & (moments > 0) & (moments < _YEAR_3000_MS)
    at_a_minute &= np.mod(np.where(at_a_minute, moments, 1.0), MINUTE_SECONDS * 1000.0) == 0
    left_out = Counter({
        "without a number in each column": int((~whole).sum()), "off the minute": int((whole & ~at_a_minute).sum()),
    })  # fmt: skip
    start = (moments[at_a_minute] // 1000).astype(np.int64)
    return Served(start, {name: values[at_a_minute] for name, values in columns.items()}, +left_out)


def together(pages: Iterable[Served]) -> Served:
    """All pages as one, ascending; of a repeated moment the last that was served."""
    listed = list(pages) or [served([])]
    start = np.concatenate([page.start for page in listed])
    columns = {name: np.concatenate([page.columns[name] for page in listed]) for name in _FIELDS}
    order = np.argsort(start, kind="stable")
    start = start[order]
    last = np.append(start[1:] != start[:-1], True) if len(start) else np.empty(0, bool)
    return Served(
        start[last],
        {name: values[order][last] for name, values in columns.items()},
        sum((page.left_out for page in listed), Counter()),
    )


def as_served(bars: Served, hours: Hours) -> Quotes:
    """Hour bars of Massive's that are among the hours asked for."""
    at, inside = hours.holding(bars.start)
    inside &= bars.start == hours.start[at] if len(hours) else inside
    start = bars.start[inside]
    return Quotes(start, start + HOUR_SECONDS, **{name: values[inside] for name, values in bars.columns.items()})


def by_the_hour(minutes: Served, hours: Hours) -> Quotes:
    """Minute bars joined to the hours that they begin in: bar_start <= minute < bar_end. What lies in none is left out."""
    at, inside = hours.holding(minutes.start)
    if not inside.any():
        empty, none = np.empty(0, np.int64), np.empty(0)
        return Quotes(empty, empty, none, none, none, none, none)
    frame = pd.DataFrame({name: values[inside] for name, values in minutes.columns.items()})
    longer = joined(frame.assign(ticker=0), pd.Series(at[inside]))
    row = longer["bar_start"].to_numpy()
    return Quotes(hours.start[row], hours.end[row], **{name: longer[name].to_numpy(np.float64) for name in _FIELDS})


def notes_on(bars: Served, what: str) -> list[str]:
    """A sentence for each kind of bar that was left out, and for those that contradict themselves and were kept."""
    said = [f"{count} {what} bar(s) {why} left out" for why, count in bars.left_out.items()]
    crossed = int((bars.columns["high"] < bars.columns["low"]).sum())
    if crossed:
        said.append(f"{crossed} {what} bar(s) with a high below the low taken as they stand")
    return said


def splits_of(results: object, symbol: str, opens: pd.Series) -> tuple[list[Action], Counter[str]]:
    """Splits, new shares per old, and how many rows were left out, by reason. opens: of each session, by its date.

    Raises DamagedAnswerError where results are no list or of another symbol.
    """
    found: list[Action] = []
    left_out: Counter[str] = Counter()
    for row in _of(symbol, results):
        new, old = _number(row.get("split_to")), _number(row.get("split_from"))
        if not (new > 0 and old > 0 and math.isfinite(new / old)):
            left_out[f"split(s) of {_word(row.get('split_to'))} for {_word(row.get('split_from'))}"] += 1
            continue
        try:
            found += _from_its_session(row.get("execution_date"), opens, "split", new / old)
        except ValueError:
            left_out["split(s) without a date that can be read"] += 1
    return found, left_out


def dividends_of(results: object, symbol: str, opens: pd.Series) -> tuple[list[Action], Counter[str]]:
    """Dividends in dollars a share, one for each id, and how many rows were left out, by reason. As splits_of."""
    found: dict[str, list[Action]] = {}
    left_out: Counter[str] = Counter()
    for number, row in enumerate(_of(symbol, results)):
        amount = _number(row.get("cash_amount"))
        if row.get("currency") != "USD":
            left_out[f"dividend(s) in {_word(row.get('currency'))}, not in USD,"] += 1
            continue
        if not (amount > 0 and math.isfinite(amount)):
            left_out[f"dividend(s) of {_word(row.get('cash_amount'))}"] += 1
            continue
        try:
            found[str(row.get("id") or number)] = _from_its_session(
                row.get("ex_dividend_date"), opens, "dividend", amount
            )
        except ValueError:
            left_out["dividend(s) without a date that can be read"] += 1
    return [action for actions in found.values() for action in actions], left_out


def _of(symbol: str, results: object) -> Iterable[dict[str, object]]:
    for row in listed(results):
        whole = row if isinstance(row, dict) else {"ticker": symbol}  # and nothing else: it will be left out
        if whole.get("ticker") != symbol:
            raise DamagedAnswerError(
                f"Massive answers with corporate actions of {_word(whole.get('ticker'))!r} instead"
            )
        yield whole


def _from_its_session(day: object, opens: pd.Series, kind: str, value: float) -> list[Action]:
    """The action at the opening of the first session on or after the day; none after the last session that is known.

    Raises ValueError for what is no day.
    """
    at = int(opens.index.searchsorted(pd.Timestamp(date.fromisoformat(str(day)))))
    return [Action(pd.Timestamp(opens.iloc[at]).as_unit("us"), kind, value)] if at < len(opens) else []


def listed(results: object) -> list[object]:
    """The rows of an answer; none where it has no results. Raises DamagedAnswerError where they are no list."""
    if results is None:
        return []
    if not isinstance(results, list):
        raise DamagedAnswerError(f"its results are no list: {_word(results)!r}")
    return results


def _numbers(values: Iterable[object]) -> Floats:
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: object) -> float:
    """Whatever is no number is NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _word(value: object) -> str:
    return " ".join(str(value).split())[:40]
