"""What every materialization tells the UI: rows, coverage, quality, seconds, memory, and a picture on the newest day only."""

import base64
import functools
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg
import pandas as pd

from tft_pipeline.contracts import ACTIONS, BARS, FEATURES, HOURLY_SENTIMENT, MENTIONS, QUALITY
from tft_pipeline.crash_points import reached
from tft_pipeline.errors import ConfigError, PipelineError, StaleWriterError
from tft_pipeline.orchestration.membership import TICKERS_TAG
from tft_pipeline.orchestration.memory import MemoryWatch, of_this_process
from tft_pipeline.orchestration.partitions import Window, window_of
from tft_pipeline.orchestration.refusals import beside
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.schema import Table
from tft_pipeline.storage.quality import mean_score
from tft_pipeline.storage.slices import Written, take_generation

OWNERS = ["team:forecasting"]
MAX_RETRIES = 4
MEMORY_SAMPLED_SECONDS = 0.1
FIRST_WAIT_SECONDS = 2.0  # doubled each time: about half a minute in all

# What a run about some tickers may write: no decision, and no money, of the past.
_OF_SOME_TICKERS = {ACTIONS, BARS, QUALITY, MENTIONS, HOURLY_SENTIMENT, FEATURES}

_TABLES: dict[str, tuple[Table, ...]] = {}  # what each asset writes

# Bare, for Dagster reads assets' annotations and does not know the generic.
Result = dg.MaterializeResult


def table_asset(
    group: str,
    *tables: Table,
    deps: Sequence[dg.AssetsDefinition | dg.AssetDep] = (),
    kinds: Sequence[str] = (),
    warnings: Mapping[str, str] | None = None,
    blocking: Mapping[str, str] | None = None,
    pool: str | None = None,
) -> Callable[[Callable[..., Result]], dg.AssetsDefinition]:
    """An asset that writes tables: where they lie, their columns with units, and a blocking check of their contract.

    warnings, blocking: {name: description} of further checks, which warn and block nothing, or stop what comes after.
    """
    main = tables[0]
    columns = [
        dg.TableColumn(
            name=column.name,
            type=column.dtype,
            description=f"{column.meaning} [{column.unit}]",
            constraints=dg.TableColumnConstraints(nullable=column.nullable, unique=main.key == (column.name,)),
        )
        for column in (*main.columns, *main.generated)
    ]

    def declare(function: Callable[..., Result]) -> dg.AssetsDefinition:
        name = function.__name__
        _TABLES[name] = tables
        checks = [
            dg.AssetCheckSpec(
                "contract",
                asset=name,
                blocking=True,
                description="The rows in PostgreSQL are as many as the ledger says, and keep the table's contract when read back.",
            ),
            *(dg.AssetCheckSpec(check, asset=name, description=text) for check, text in (warnings or {}).items()),
            *(
                dg.AssetCheckSpec(check, asset=name, blocking=True, description=text)
                for check, text in (blocking or {}).items()
            ),
        ]
        definition: dg.AssetsDefinition = dg.asset(
            group_name=group,
            owners=OWNERS,
            kinds={"postgres", *kinds},
            deps=deps,
            check_specs=checks,
            pool=pool,
            metadata={
                "dagster/table_name": ", ".join(table.name for table in tables),
                "dagster/storage_kind": "postgres",
                "dagster/column_schema": dg.TableSchema(columns=columns),
            },
        )(_patient(_weighed(function)))
        return definition

    return declare


def _patient(function: Callable[..., Result]) -> Callable[..., Result]:
    """function, tried again after a while when what went wrong may pass by itself; a fact about the data fails at once."""

    @functools.wraps(function)
    def tried(context: dg.AssetExecutionContext, *given: Any, **named: Any) -> Result:
        try:
            return function(context, *given, **named)
        except PipelineError as error:
            if not error.transient:
                raise
            wait = FIRST_WAIT_SECONDS * 2**context.retry_number * random.uniform(0.5, 1.5)
            context.log.warning(f"{error} Trying again in {wait:.0f} s, at most {MAX_RETRIES} times.")
            raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=wait) from error

    return tried


def _weighed(function: Callable[..., Result]) -> Callable[..., Result]:
    """function, its result saying how much memory the process held at the most while it ran: earlier assets' peaks are not repeated."""

    @functools.wraps(function)
    def watched(*given: Any, **named: Any) -> Result:
        with MemoryWatch(of_this_process, MEMORY_SAMPLED_SECONDS) as memory:
            outcome = function(*given, **named)
        return dg.MaterializeResult(
            metadata={**(outcome.metadata or {}), "peak_memory_mib": memory.peak_mib},
            check_results=outcome.check_results,
        )

    return watched


def tables_of(asset: str) -> tuple[Table, ...]:
    """The tables that an asset writes, its main one first."""
    return _TABLES[asset]


def partitioned_assets() -> list[str]:
    """The names of all assets that write slices, in the order of the flow in which they were declared."""
    return list(_TABLES)


class Stopwatch:
    """Seconds since an asset began, told to whoever watches the run."""

    def __init__(self, pipeline: Pipeline, stage: str, window: Window | None = None) -> None:
        self.pipeline, self.window = pipeline, window
        self._stage, self._started = stage, time.perf_counter()
        pipeline.progress(stage, 0, 1)

    def stop(self) -> float:
        seconds = round(time.perf_counter() - self._started, 3)
        self.pipeline.seconds[self._stage] = round(self.pipeline.seconds.get(self._stage, 0.0) + seconds, 3)
        self.pipeline.progress(self._stage, 1, 1)
        return seconds


def begin(context: dg.AssetExecutionContext, pipeline: Pipeline) -> tuple[Stopwatch, Window]:
    """The asset's stopwatch, running, and the days it is about, claimed: whoever began before and lives on can no longer write them.

    A killed run's step process may outlive it (FAULTS 2), so the claim is taken here and not with the write.
    The run's tag tft/tickers makes it one about these tickers only. Raises ConfigError: one is not followed, or the asset has no part
    for some tickers alone.
    """
    name = context.asset_key.to_user_string()
    pipeline.about(_tickers_of(context, name))
    window = window_of(context, pipeline.now(), pipeline.bars.delay)
    reached("asset: begun")
    _refuse_given_up(context)
    generation = take_generation(pipeline.database, _TABLES[name], window.days)
    reached("asset: claimed")
    window = replace(window, generation=generation)
    return Stopwatch(pipeline, name, window), window


def _tickers_of(context: dg.AssetExecutionContext, name: str) -> list[str] | None:
    """The tickers that the run is about; None: all."""
    tag = context.run.tags.get(TICKERS_TAG)
    if tag is None:
        return None
    if not _OF_SOME_TICKERS.issuperset(_TABLES[name]):
        raise ConfigError(
            f"{name}: has no part of its own for some tickers (tag {TICKERS_TAG}={tag}); leave it out of the run, or leave out the tag."
        )
    return [ticker.strip() for ticker in tag.split(",") if ticker.strip()]


def _refuse_given_up(context: dg.AssetExecutionContext) -> None:
    """Raises StaleWriterError for a run that Dagster has ended while this process lives on: its successor must not be overtaken.

    A claim refuses a predecessor, and this one would claim anew with each asset and each try.
    """
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is not None and run.is_finished:
        raise StaleWriterError(
            f"{context.asset_key.to_user_string()}: run {run.run_id[:8]} was ended as {run.status.value} while its process lived on; "
            "whichever run follows does its work. Nothing was written."
        )


def coverage(frame: pd.DataFrame, universe: Sequence[str]) -> dict[str, Any]:
    """How many of the universe's tickers the frame holds, and who is missing."""
    return covering(frame["ticker"].unique(), universe)


def covering(tickers: Iterable[str], universe: Sequence[str]) -> dict[str, Any]:
    """How many of the universe are among tickers, and who is missing."""
    held = set(tickers)
    missing = [ticker for ticker in universe if ticker not in held]
    share = 1.0 if not universe else 1 - len(missing) / len(universe)
    return {
        "tickers": len(held),
        "ticker_coverage": round(share, 4),
        "missing_tickers": ", ".join(missing[:50]) or "none",
    }


def result(
    context: dg.AssetExecutionContext,
    written: Mapping[str, Written],
    watch: Stopwatch,
    *,
    ticker_coverage: float | str,
    checks: Sequence[dg.AssetCheckResult] = (),
    picture: bytes | None = None,
    **facts: Any,
) -> Result:
    """The materialization with its figures. A run over many days records the same figures for each: they are the run's.

    ticker_coverage: from coverage or covering, or a sentence that says why the asset knows no tickers. quality is the mean score of the
    window's bars, as far as they are judged.
    """
    reached("asset: before its event")
    window = watch.window
    for name, refused in ((name, w.rows_quarantined) for name, w in written.items() if w.rows_quarantined):
        context.log.warning(f"{name}: {refused} row(s) refused; each is in ops.quarantine with its reason")
    quality = mean_score(watch.pipeline.database, window.start, window.end) if window else None
    metadata: dict[str, Any] = {
        "dagster/row_count": sum(w.rows for w in written.values()),
        "rows": sum(w.rows for w in written.values()),
        "rows_written": sum(w.rows_written for w in written.values()),
        "rows_revised": sum(w.rows_revised for w in written.values()),
        "rows_quarantined": sum(w.rows_quarantined for w in written.values()),
        "slices": max((w.days for w in written.values()), default=0),
        "slices_changed": sum(w.slices_changed for w in written.values()),
        "ticker_coverage": ticker_coverage,
        "quality": "none judged yet" if quality is None else round(quality, 4),
        "seconds": watch.stop(),
        **_content_hashes(written, window),
        **(beside(watch.pipeline.database, tables_of(context.asset_key.to_user_string()), window) if window else {}),
        **{name: value for name, value in facts.items() if value is not None},
    }
    if picture is not None:
        # A ranged run copies output metadata to each of its partitions, so the picture goes to the newest alone (FINDINGS).
        image = base64.b64encode(picture).decode("ascii")
        context.add_asset_metadata(
            {"picture": dg.MetadataValue.md(f"![picture](data:image/png;base64,{image})")},
            partition_key=context.partition_keys[-1],
        )
    return dg.MaterializeResult(metadata=metadata, check_results=list(checks))


def _content_hashes(written: Mapping[str, Written], window: Window | None) -> dict[str, Any]:
    """What `doctor` holds the event against the ledger by. A run over many days would repeat all of them with each day's event: of those,
    only `doctor --deep` tells whether the rows are what was written."""
    if window is None or len(window.days) != 1 or not written:  # a model that is stored already is not written again
        return {}
    return {"content_hashes": {name: one.content_hashes[window.days[0]] for name, one in written.items()}}
