"""The sensors: level-triggered. They read what is true in PostgreSQL, and say why they ask or do not."""

from datetime import timedelta

import dagster as dg

from tft_pipeline import config
from tft_pipeline.contracts import DRIFT, FEATURES
from tft_pipeline.monitoring.policy import retrain_request
from tft_pipeline.orchestration.jobs import retrain
from tft_pipeline.orchestration.partitions import TRAINING_DAYS
from tft_pipeline.orchestration.reconciling import compare
from tft_pipeline.orchestration.refreshes import at_work
from tft_pipeline.orchestration.reporting import partitioned_assets
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.audit import reaches_to
from tft_pipeline.storage.ledger import newest
from tft_pipeline.storage.read import read
from tft_pipeline.storage.registry import models_by

MOST_EVENTS = 1000  # a tick: the next one takes the rest


@dg.sensor(
    job=retrain,
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for retraining when enough features, or the forecasts' coverage or skill, have drifted.",
)
def drift_sensor(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.SensorResult | dg.SkipReason:
    day = newest(pipeline.reader, DRIFT)
    if day is None:
        return dg.SkipReason("monitoring.drift is empty: the drift asset has not found a model and enough rows yet")
    now = pipeline.now()
    yesterday = (now - timedelta(days=1)).date()
    target = min(yesterday, pipeline.settings.end or yesterday)
    # After a downtime, drift is of the days before it, and a training of yesterday would find nothing to learn from.
    for table in (FEATURES, DRIFT):
        reached = reaches_to(pipeline.reader, table, target)
        if reached is None or reached < config.day_start(target + timedelta(days=1)):
            return dg.SkipReason(f"{table.name} of {target} is not complete yet: the hourly refresh comes first")
    for record in at_work(context.instance, retrain.name):
        return dg.SkipReason(
            f"retrain run {record.dagster_run.run_id[:8]} is in progress: what it leaves is judged after it"
        )
    rows = read(pipeline.reader, DRIFT, day, day + timedelta(days=1))
    models = models_by(pipeline.reader, before=now)
    runs = context.instance.get_run_records(dg.RunsFilter(job_name=retrain.name), limit=50)
    trained = models.iloc[-1].trained_as_of if len(models) else None
    since = [r.create_timestamp for r in runs if trained is None or r.create_timestamp > trained]
    request = retrain_request(
        rows, last_trained_as_of=trained, last_requested_at=max(since, default=None), attempts=len(since), now=now,
        settings=pipeline.settings.monitoring,
    )  # fmt: skip
    if not request.wanted:
        return dg.SkipReason(request.reason)
    training_day = target.isoformat()
    wanted = dg.RunRequest(run_key=request.run_key, partition_key=training_day, tags={"tft/reason": request.reason})
    return dg.SensorResult(
        run_requests=[wanted], dynamic_partitions_requests=[TRAINING_DAYS.build_add_request([training_day])]
    )


@dg.sensor(
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Re-emits the events of commits whose run died before it could report them, so that the graph shows what PostgreSQL holds.",
)
def record_reconciler(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.SensorResult | dg.SkipReason:
    found = compare(context.instance, pipeline.reader, partitioned_assets(), now=pipeline.now())
    if not found.unrecorded:
        return dg.SkipReason("every slice that PostgreSQL holds has its event in Dagster's record")
    return dg.SensorResult(asset_events=[one.event() for one in found.unrecorded[:MOST_EVENTS]])
