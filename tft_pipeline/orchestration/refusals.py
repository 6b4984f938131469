"""What was refused and why, for who looks: on the command line, and beside an asset in the UI."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg

from tft_pipeline.config import Settings
from tft_pipeline.contracts import TABLES
from tft_pipeline.errors import ConfigError
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.schema import Table
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.opening import open_database
from tft_pipeline.storage.quarantine import Sought, counted, listed

_SHOWN_ROWS, _SHOWN_LETTERS = 20, 160
_ROWS_SHOWN_FOR_DAYS = 7  # the metadata of a run over a range are copied to each of its days


def refusals(
    settings: Settings, table: str | None, ticker: str | None, first: date | None, last: date | None, *, limit: int
) -> dict[str, Any]:
    """rules: table, reason, rows, tickers, first, last. rows: the newest, each with its reason and as it came.

    Raises ConfigError for a table that there is not, StorageError.
    """
    names = [known.name for known in TABLES]
    if table is not None and table not in names:
        raise ConfigError(f"--table {table!r} is no table; choose one of {', '.join(names)}.")
    sought = Sought(table, ticker, first, last)
    with open_database(settings) as database:
        rules, rows = counted(database, sought), listed(database, sought, limit=limit)
    return {"rules": rules.to_dict("records"), "rows": rows.to_dict("records"), "simulated": settings.simulated}


def beside(database: Database, tables: Sequence[Table], window: Window) -> dict[str, dg.MetadataValue]:
    """Metadata with what raw tables refused in the window: each rule's count, and a table of the newest rows; empty where nothing was."""
    metadata: dict[str, dg.MetadataValue] = {}
    for table in tables:
        if table.mode != "raw":
            continue
        sought = Sought(table.name, None, window.days[0], window.days[-1])
        rules = counted(database, sought)
        if rules.empty:
            continue
        metadata |= {
            f"refused: {reason}": dg.MetadataValue.int(int(rows))
            for reason, rows in zip(rules["reason"], rules["rows"], strict=True)
        }
        if len(window.days) > _ROWS_SHOWN_FOR_DAYS:
            continue
        rows = listed(database, sought, limit=_SHOWN_ROWS)
        lines = [
            f"| {row['day']} | {row['ticker'] or ''} | {_cell(row['reason'])} | {_cell(str(row['row']))} |"
            for row in rows.to_dict("records")
        ]
        more = f"The newest {len(rows)}; all of them: `tft-pipeline quarantine --table {table.name}`"
        metadata[f"quarantine of {table.name}"] = dg.MetadataValue.md(
            "\n".join([more, "", "| day | ticker | reason | as it came |", "| --- | --- | --- | --- |", *lines])
        )
    return metadata


def _cell(text: str) -> str:
    """A bar would begin the next column, and what came from outside is no Markdown."""
    short = text if len(text) <= _SHOWN_LETTERS else text[: _SHOWN_LETTERS - 1] + "…"
    return "`" + short.replace("|", "¦").replace("`", "'").replace("\n", " ") + "`"
