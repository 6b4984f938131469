"""Runs of our jobs in this process, recorded in the instance that `up` shows."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from tft_pipeline import config, errors
from tft_pipeline.config import Settings
from tft_pipeline.errors import PipelineError
from tft_pipeline.orchestration import processes
from tft_pipeline.orchestration.partitions import TRAINING_DAYS
from tft_pipeline.orchestration.schedules import RANGE_END, RANGE_START

_OURS = tuple(f"{PipelineError.__module__}.{name}: " for name in vars(errors) if name.endswith("Error"))


def prepare_home(settings: Settings) -> None:
    """DAGSTER_HOME with our dagster.yaml; an older copy is replaced."""
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(config.bundled("dagster.yaml"), settings.dagster_home / "dagster.yaml")


@contextmanager
def recorded_in(settings: Settings, dsn: str) -> Iterator[dg.DagsterInstance]:
    """The instance under settings.home, in the database at dsn, set up for runs over many days."""
    prepare_home(settings)
    settings.export(dsn, bulk=True)
    # Dagster prints every event; whoever called us shows progress instead.
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    with dg.DagsterInstance.get() as instance:
        yield instance


def run(
    definitions: dg.Definitions,
    job: str,
    instance: dg.DagsterInstance,
    first: date | None = None,
    last: date | None = None,
    *,
    run_config: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    assets: Sequence[str] = (),
) -> str:
    """Run the job over the days first to last in one run; its run id. A job that is about no days, such as upkeep, takes none.

    tags: of the run, besides its days'. assets: only these of the job; empty: all.
    Raises PipelineError with the failed asset's own words, KeyboardInterrupt where ctrl-c ended it.
    """
    resolved = definitions.resolve_job_def(job)
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    day, of_range = None, {}
    if first is not None and last is not None:
        if isinstance(resolved.partitions_def, dg.DynamicPartitionsDefinition):
            instance.add_dynamic_partitions(TRAINING_DAYS.name or "", [first.isoformat()])
        if first == last:
            day = first.isoformat()
        else:
            of_range = {RANGE_START: first.isoformat(), RANGE_END: last.isoformat()}
    outcome = resolved.execute_in_process(
        instance=instance,
        partition_key=day,
        tags={**processes.tags(), **(tags or {}), **of_range},
        asset_selection=[dg.AssetKey(asset) for asset in assets] or None,
        raise_on_error=False,
        run_config={**quiet, **(run_config or {})},
    )
    if not outcome.success:
        if _interrupted(outcome):
            raise KeyboardInterrupt
        raise PipelineError(f"{_first_failure(outcome)} (run {outcome.run_id}; `tft-pipeline up` shows it in full)")
    return outcome.run_id


def _interrupted(outcome: dg.ExecuteInProcessResult) -> bool:
    """Dagster takes ctrl-c for a failure of the step that it hit."""
    failures = [event.step_failure_data.error for event in outcome.all_events if event.is_step_failure]
    return any(error is not None and error.cls_name == "DagsterExecutionInterruptedError" for error in failures)


def _first_failure(outcome: dg.ExecuteInProcessResult) -> str:
    for event in outcome.all_events:
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if check.blocking and not check.passed:
                return f"{event.step_key}: its check '{check.check_name}' failed: {check.description}"
        if event.is_step_failure:
            error = event.step_failure_data.error
            if error is not None:
                return f"{event.step_key}: {own_words(error)}"
    return "the run failed before its first asset"


def own_words(error: SerializableErrorInfo) -> str:
    """Of an error and what caused it, what one of ours said, for it says what to do; else what the first cause said."""
    while not error.message.startswith(_OURS) and error.cause is not None:
        error = error.cause
    said = error.message.strip()
    return said.split(": ", maxsplit=1)[-1] if said.startswith(_OURS) else said
