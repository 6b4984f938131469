"""Checks of what an asset wrote: its contract, read back from PostgreSQL and held against the ledger, and how far bars can be trusted."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pandas as pd

from tft_pipeline.errors import ContractError
from tft_pipeline.market.quality import RULES, WARN_BELOW
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.schema import Table, validate
from tft_pipeline.storage.audit import rows_promised
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.read import read


def contract_kept(database: Database, tables: Sequence[Table], window: Window) -> dg.AssetCheckResult:
    """Whether the window's rows are as many as ops.slices says and keep their contract. Blocks what comes after."""
    held, promised, broken = 0, 0, []
    for table in tables:
        frame = read(database, table, window.start, window.end)
        held += len(frame)
        promised += rows_promised(database, table, window.days)
        try:
            validate(frame, table)
        except ContractError as error:
            broken.append(str(error))
    if held != promised:
        broken.append(
            f"the ledger promises {promised:,} rows of {', '.join(t.name for t in tables)}, PostgreSQL holds {held:,}"
        )
    return dg.AssetCheckResult(
        check_name="contract",
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(broken) or f"{held:,} rows, as the ledger says, all within the contract",
        metadata={"rows_held": held, "rows_promised": promised},
    )


def trusted(quality: pd.DataFrame) -> dg.AssetCheckResult:
    """A warning about every ticker's day of QUALITY that scores below WARN_BELOW."""
    poor = quality[quality["score"] < WARN_BELOW]
    said = f"{len(poor)} of {len(quality)} ticker-days score below {WARN_BELOW}; the worst: {_worst(poor)}"
    return dg.AssetCheckResult(
        check_name="trusted",
        passed=poor.empty,
        severity=dg.AssetCheckSeverity.WARN,
        description="every day scores well" if poor.empty else said,
    )


def floor_kept(quality: pd.DataFrame, floor: float) -> dg.AssetCheckResult:
    """Whether each day's mean score is floor or more, over tickers of which something came. Blocks what comes after.

    The mean, for one bad ticker must not stop the others; and of those that are there, for who is silent is told by the coverage.
    """
    there = quality[(quality["bars"] + quality["quarantined_bars"]) > 0]
    means = there.groupby("day_start")["score"].mean().sort_values(kind="stable")
    low = means[means < floor]
    description = f"each day scores {floor:g} or more on average"
    if len(low):
        day, score = low.index[0], low.iloc[0]
        of_day = there[there["day_start"] == day]
        description = (
            f"{len(low)} day(s) score below {floor:g} on average, the worst {day:%Y-%m-%d} with {score:.2f}: {_worst(of_day)}. See "
            f"`tft-pipeline quarantine --from {day:%Y-%m-%d} --to {day:%Y-%m-%d}`; mend the source and refresh, or lower TFT_QUALITY_FLOOR."
        )
    return dg.AssetCheckResult(
        check_name="floor", passed=low.empty, severity=dg.AssetCheckSeverity.ERROR, description=description,
        metadata={"floor": floor, "lowest": float(means.min()) if len(means) else 1.0},
    )  # fmt: skip


def _worst(quality: pd.DataFrame) -> str:
    """The five lowest ticker-days, each with what spoke against it."""
    return ", ".join(
        f"{row['ticker']} on {row['day_start']:%Y-%m-%d} {row['score']:.2f} ({_against(row)})"
        for row in quality.nsmallest(5, "score").to_dict("records")
    )


def _against(row: Mapping[Any, Any]) -> str:
    counts = [f"{int(row[f'{rule}_bars'])} {rule.replace('_', ' ')}" for rule in RULES if row[f"{rule}_bars"]]
    return f"of {int(row['expected_bars'])} bars: {', '.join(counts) or 'nothing'}"
