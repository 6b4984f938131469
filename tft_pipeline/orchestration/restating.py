"""What was restated: noted from what an overlap's answer says otherwise than is held, and settled by the run that was asked for it.

Nothing but the window is written. A day of which something differs is noted, and the schedule asks for exactly that day. The run that does
takes the new rows in as of when it read them: a correction is known from its writing on, and a row that comes late from when it was read. So
every derived day before that moment, made as of its own end, stays as it was, bit for bit; the days that change are the one in which the
correction became known, which is not over yet and is refreshed until it is, and those after it. Only raw slices of the restated day need
writing, and no later day has to be done again.

What belongs here: notes about one table in one run. What does not: what counts as a difference (`market.restatements`), the notes themselves
(`storage.restatements`), and when a day is asked for again (`healing`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tft_pipeline import schema
from tft_pipeline.contracts import BARS
from tft_pipeline.market.restatements import Compared
from tft_pipeline.orchestration.overlap import Asked
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage import restatements
from tft_pipeline.storage.quarantine import between
from tft_pipeline.storage.restatements import Open
from tft_pipeline.storage.staleness import written_days


@dataclass
class Look:
    """The notes on one table: those that the window's run was asked for, and what it found in the overlap."""

    pipeline: Pipeline
    asked: Asked
    run_id: str
    wanted: Sequence[Open] = field(default_factory=tuple)

    @classmethod
    def begun(cls, pipeline: Pipeline, asked: Asked, run_id: str) -> "Look":
        days = asked.window.days
        return cls(pipeline, asked, run_id, restatements.open_notes(pipeline.database, asked.table, days[0], days[-1]))

    def as_learned(self, held: pd.DataFrame) -> pd.DataFrame:
        """The window's rows, where one that is noted as new says when it was read: it was not known when its hour ended."""
        rows, table = self.asked.inside, self.asked.table
        noted = {(one.day, one.ticker) for one in self.wanted}
        if not noted or rows.empty:
            return rows
        days = rows[table.time].dt.date
        key = list(table.key)
        lacking = ~pd.MultiIndex.from_frame(rows[key]).isin(pd.MultiIndex.from_frame(held[key]))
        late = lacking & np.array([pair in noted for pair in zip(days, rows["ticker"], strict=True)])
        now = pd.Timestamp(self.pipeline.now()).as_unit("us")
        return rows.assign(known_at=rows["known_at"].mask(late & (rows["known_at"] < now), now))

    def concluded(
        self,
        compared: Compared,
        refused: pd.DataFrame | None = None,
        *,
        rescaled: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Note what differs in the overlap, settle what does not any more and what the window wrote; figures for the event.

        refused: ticker and the table's time of the overlap's rows that were refused and were not before. rescaled: a sentence about
        each of compared.rescaled, by ticker.
        """
        table, database = self.asked.table, self.pipeline.database
        found = pd.concat(
            [self._restated(compared, refused), self._rescaled(compared, rescaled or {})], ignore_index=True
        )
        days = self.asked.days
        known = set(written_days(database, table, first=days[0], last=days[-1])) if days else set()
        found = found[found["day"].isin(known | set(self.asked.window.days))]
        restatements.note(
            database, table, found, source=self.pipeline.bars.name, run_id=self.run_id, at=self.pipeline.now()
        )
        still = set(zip(found["day"], found["ticker"], strict=True))
        seen = [one for one in self.wanted if one.ticker not in self.asked.absent]
        if days:
            read = set(self.asked.before["ticker"]) - self.asked.absent if table is BARS else self._answered()
            seen += [
                one
                for one in restatements.open_notes(database, table, days[0], days[-1])
                if one.ticker in read or one.ticker not in self.pipeline.universe
            ]
        done = [one for one in seen if (one.day, one.ticker) not in still and self._is_ours(one)]
        settled = restatements.settle(database, table, done, run_id=self.run_id, at=self.pipeline.now())
        again = found[found["kind"] == "restated"]
        return {
            "overlap_days": len(days), "restated_rows": int(again["rows"].sum()), "restated_days": _listed(again["day"]),
            "restatements_settled": settled,
        }  # fmt: skip

    def _answered(self) -> set[str]:
        return set(self.pipeline.tickers) - self.asked.problems.keys()

    def _is_ours(self, one: Open) -> bool:
        """Whether this run may say something about the note: it asked for the ticker, or nobody does any more."""
        return one.ticker in self.pipeline.tickers or one.ticker not in self.pipeline.universe

    def _restated(self, compared: Compared, refused: pd.DataFrame | None) -> pd.DataFrame:
        time = self.asked.table.time
        before = compared.differing[compared.differing[time] < self.asked.window.start]
        what = np.where(before["is_new"], "new", "changed")
        parts = [before[["ticker", time]].assign(what=what)]
        if refused is not None and len(refused):
            parts.append(refused[["ticker", time]].assign(what="refused"))
        rows = pd.concat(parts, ignore_index=True)
        rows = rows.assign(day=rows[time].dt.date)
        found = []
        for (day, ticker), of_slice in rows.groupby(["day", "ticker"], sort=True):
            counts = of_slice["what"].value_counts().sort_index()
            said = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            reason = f"{said}, first at {of_slice[time].min():%H:%M}Z"
            found.append((day, ticker, "restated", reason, len(of_slice)))
        return pd.DataFrame(found, columns=restatements.COLUMNS)

    def _rescaled(self, compared: Compared, sentences: Mapping[str, str]) -> pd.DataFrame:
        rows, found = self.asked.rows, []
        for one in compared.rescaled:
            of_ticker = rows[(rows["ticker"] == one.ticker) & (rows["bar_start"] <= one.last)]
            for day, count in of_ticker["bar_start"].dt.date.value_counts().sort_index().items():
                found.append((day, one.ticker, "rescaled", sentences[one.ticker], int(count)))
        return pd.DataFrame(found, columns=restatements.COLUMNS)


def newly_refused(pipeline: Pipeline, asked: Asked, rejected: pd.DataFrame) -> pd.DataFrame:
    """ticker and bar_start of the overlap's bars that were refused, and never were before, for whatever reason.

    rejected: as market.quality.judge gives it.
    """
    starts = pd.to_datetime([json.loads(row)["bar_start"] for row in rejected["row"]], utc=True)
    refused = pd.DataFrame({"ticker": rejected["ticker"].to_numpy(), "bar_start": starts.as_unit("us")})
    if refused.empty:
        return refused.astype({"ticker": "str", "bar_start": schema.UTC})
    known = between(pipeline.database, BARS.name, asked.days[0], asked.days[-1], as_of=pipeline.now())
    names = ["ticker", "bar_start"]
    again = pd.MultiIndex.from_frame(refused).isin(pd.MultiIndex.from_frame(known[names]))
    return refused[~again].reset_index(drop=True)


def _listed(days: pd.Series) -> str:
    shown = sorted({day.isoformat() for day in days})
    return ", ".join(shown) or "none"
