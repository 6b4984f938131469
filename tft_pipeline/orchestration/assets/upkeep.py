"""Upkeep of PostgreSQL as an asset: what was made, retired and analyzed, and how the tables are. The work is done in `storage.upkeep`."""

from datetime import date, timedelta

import dagster as dg

from tft_pipeline.errors import PipelineError
from tft_pipeline.orchestration.reporting import OWNERS, Stopwatch
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage import retention
from tft_pipeline.storage.registry import models_by
from tft_pipeline.storage.upkeep import Figures, Round, upkeep

MAX_RETRIES = 3
WAIT_SECONDS = 60.0


@dg.asset(group_name="storage", owners=OWNERS, kinds={"postgres"})
def partition_upkeep(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult:
    """Months made ahead, months past retention detached and put aside, statistics renewed; with rows, bytes and bloat of every table."""
    watch = Stopwatch(pipeline, "partition_upkeep")
    settings, today = pipeline.settings, pipeline.now().date()
    ended = settings.end is not None and settings.end <= today
    before, why = keep_from(pipeline)
    try:
        done = upkeep(
            pipeline.database,
            first=settings.end if settings.end and ended else today,
            months=0 if ended else settings.storage.months_ahead,
            before=before,
        )
    except PipelineError as error:
        if not error.transient:
            raise
        context.log.warning(f"{error} Trying again in {WAIT_SECONDS:.0f} s, at most {MAX_RETRIES} times.")
        raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=WAIT_SECONDS) from error
    return dg.MaterializeResult(metadata={**_totals(done), "retention": why, **_tables(done), "seconds": watch.stop()})


def keep_from(pipeline: Pipeline) -> tuple[date | None, str]:
    """The first day that must stay, or None where all must; and why, in a sentence.

    What the serving model was trained on stays for as long as it serves: drift is measured against it.
    """
    years, settings = pipeline.settings.retention_years, pipeline.settings
    if years is None:
        return None, (
            f"nothing is retired: history ends on {settings.end}"
            if settings.end
            else "nothing is retired: TFT_STORAGE_RETENTION_YEARS=0"
        )
    first = retention.limit(pipeline.database, years, today=pipeline.now().date())
    if first is None:
        return None, "nothing is retired: there are no rows yet"
    why = f"months before {first} are retired: {years} years back from the newest day with rows"
    models = models_by(pipeline.database, before=pipeline.now())
    if len(models):
        trained_from = (models.iloc[-1].trained_as_of - timedelta(days=settings.training.history_days)).date()
        if trained_from < first:
            return (
                trained_from,
                f"months before {trained_from} are retired: the serving model was trained on what follows",
            )
    return first, why


def _totals(done: Round) -> dict[str, int | float | str]:
    """Numbers get a plot each in the UI."""
    live, dead = (sum(getattr(f, name) for f in done.figures) for name in ("live_rows", "dead_rows"))
    return {
        "partitions": sum(f.partitions for f in done.figures),
        "partitions_made": len(done.made),
        "partitions_retired": len(done.retired),
        "rows_retired": sum(one.rows for one in done.retired),
        "tables_analyzed": len(done.analyzed),
        "live_rows": live,
        "dead_rows": dead,
        "dead_share": round(dead / max(live + dead, 1), 4),
        "table_bytes": sum(f.table_bytes for f in done.figures),
        "index_bytes": sum(f.index_bytes for f in done.figures),
        "unused_index_bytes": sum(f.unused_index_bytes for f in done.figures),
        "made_by": done.by,
    }


def _tables(done: Round) -> dict[str, dg.TableMetadataValue]:
    found = {"tables": dg.MetadataValue.table([_row(figures) for figures in done.figures])}
    if done.retired:
        records = [
            dg.TableRecord({"table": one.table, "month": f"{one.month:%Y-%m}", "rows": one.rows, "slices": one.slices, "kept_as": one.kept_as})
            for one in done.retired
        ]  # fmt: skip
        found["retired"] = dg.MetadataValue.table(records)
    return found


def _row(figures: Figures) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "table": figures.table, "partitions": figures.partitions, "live_rows": figures.live_rows, "dead_rows": figures.dead_rows,
            "dead_share": round(figures.dead_share, 4), "table_bytes": figures.table_bytes, "index_bytes": figures.index_bytes,
            "unused_indexes": ", ".join(figures.unused_indexes) or "none",
            "analyzed_at": f"{figures.analyzed_at:%Y-%m-%d %H:%M}" if figures.analyzed_at else "never",
        }
    )  # fmt: skip
