"""What a person launches: refresh (an hour, a day or a range) and retrain. Each runs in one process: a tick costs seconds, not spawns."""

import dagster as dg

from tft_pipeline.orchestration.assets import HISTORY, OUTCOME, TRAINING, UPKEEP

history = dg.define_asset_job(
    "history",
    selection=dg.AssetSelection.assets(*HISTORY),
    executor_def=dg.in_process_executor,
    description="Bars, posts, moods and features of the days chosen: everything up to, but without, a model.",
)
outcome = dg.define_asset_job(
    "outcome",
    selection=dg.AssetSelection.assets(*OUTCOME),
    executor_def=dg.in_process_executor,
    description="Forecasts, scores, decisions, portfolio and drift of the days chosen, from features that are there.",
)
refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.assets(*HISTORY, *OUTCOME),
    executor_def=dg.in_process_executor,
    description="Everything but training, for the days chosen; hourly for today. Running it again changes nothing.",
)
retrain = dg.define_asset_job(
    "retrain",
    selection=dg.AssetSelection.assets(*TRAINING),
    executor_def=dg.in_process_executor,
    description="Train the model with what was known at the end of the day chosen.",
)
upkeep = dg.define_asset_job(
    "upkeep",
    selection=dg.AssetSelection.assets(*UPKEEP),
    executor_def=dg.in_process_executor,
    description="Partitions made ahead, months past retention put aside, statistics renewed. Nightly; running it again changes nothing.",
)

JOBS = [refresh, history, outcome, retrain, upkeep]
