"""Blocking contract checks: what PostgreSQL holds, read back, against the ledger and the contract."""

from collections.abc import Sequence

import dagster as dg

from tft_pipeline.errors import ContractError
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
