"""The main job from end to end: history, a model, what it would have done since; and a report that leaves nothing out."""

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.contracts import BARS, DECISIONS, EQUITY, POSITIONS, SCORES, TRADES
from tft_pipeline.errors import ConfigError
from tft_pipeline.features.matrix import WARMUP_DAYS
from tft_pipeline.forecasts.baselines import BASELINE_ID
from tft_pipeline.forecasts.scores import summary as score_summary
from tft_pipeline.orchestration import launch
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.memory import MemoryWatch, of_this_command
from tft_pipeline.orchestration.resources import Pipeline, Progress, no_progress
from tft_pipeline.orchestration.settling import check_sources, settle
from tft_pipeline.portfolio.summary import summary as portfolio_summary
from tft_pipeline.storage.audit import reaches_to, rows_written_by
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import row_counts
from tft_pipeline.storage.opening import open_database
from tft_pipeline.storage.read import read
from tft_pipeline.storage.roles import reading

SHORTEST_DAYS = 90
TRAINED_ON_SHARE = 0.7  # of the history; what is left is forecast by a model that has not seen it


@dataclass(frozen=True)
class Plan:
    """The days of a demo: first to last, and the day whose end the model knows."""

    first: date
    trained: date
    last: date

    @classmethod
    def of(cls, settings: Settings) -> "Plan":
        """Raises ConfigError where history is too short for features, training and a test."""
        if settings.start is None:
            raise ConfigError("the demo needs to know where history begins; set TFT_START.")
        # A simulated market lives on; its demo keeps to the days up to the one it was first opened on, to give the same twice.
        opened = settings.start + timedelta(days=settings.simulation.days)
        last = settings.end or (opened if settings.simulated else config.today())
        days = (last - settings.start).days
        if days < SHORTEST_DAYS:
            raise ConfigError(
                f"{settings.start} to {last} are {days} days; a demo needs {SHORTEST_DAYS}: features alone look back {WARMUP_DAYS}. "
                "Choose a longer history."
            )
        return cls(settings.start, settings.start + timedelta(days=int(days * TRAINED_ON_SHARE)), last)

    def until(self, database: Database) -> datetime:
        """The moment the world is shown up to: what the last day's slice has reached already, so that a repeat sees the same; else now."""
        reached = reaches_to(database, BARS, self.last)
        return reached or min(config.day_start(self.last + timedelta(days=1)), datetime.now(UTC))


def demo(settings: Settings, *, again: bool = False, progress: Progress = no_progress) -> dict[str, Any]:
    """Run history, training and outcome through Dagster, and report. again: train even what is already trained."""
    started = time.perf_counter()
    check_sources(settings)
    settings = settle(settings)
    plan = Plan.of(settings)
    home = None if settings.postgres_dsn else settings.home
    with MemoryWatch(lambda: of_this_command(home)) as memory, open_database(settings) as database:
        pipeline = Pipeline(settings, database=database, until=plan.until(database), progress=progress)
        definitions = build(settings, pipeline)
        with launch.recorded_in(settings, database.dsn) as instance:
            runs = [launch.run(definitions, "history", instance, plan.first, plan.last)]
            chosen = {"ops": {"tft_model": {"config": {"again": again}}}}
            runs.append(launch.run(definitions, "retrain", instance, plan.trained, plan.trained, run_config=chosen))
            runs.append(launch.run(definitions, "outcome", instance, plan.first, plan.last))
            runs.append(launch.run(definitions, "upkeep", instance))
        report = report_of(pipeline, plan)
        report["rows_written"] = rows_written_by(database, runs)
    report["seconds"] = {**pipeline.seconds, "total": round(time.perf_counter() - started, 3)}
    report["peak_memory_bytes"] = memory.peak_bytes
    return report


def report_of(pipeline: Pipeline, plan: Plan) -> dict[str, Any]:
    """What PostgreSQL holds now: rows, skill on days the model never saw, the last decisions, the portfolio."""
    database = reading(pipeline.database)
    scores = read(database, SCORES)
    of_model = scores[scores["model_id"] != BASELINE_ID]
    decisions = read(database, DECISIONS)
    newest = decisions[decisions["issued_at"] == decisions["issued_at"].max()]
    return {
        "simulated": pipeline.settings.simulated,
        "market": pipeline.settings.market,
        "posts": pipeline.settings.posts,
        "history": {"from": plan.first.isoformat(), "trained_as_of": plan.trained.isoformat(), "to": plan.last.isoformat()},
        "rows": row_counts(database),
        "forecast": score_summary(of_model, scores[scores["model_id"] == BASELINE_ID]),
        "decisions": [
            {
                "ticker": row.ticker, "issued_at": row.issued_at.isoformat(), "action": row.action, "weight": row.weight,
                "confidence": row.confidence, "reason": row.reason, "p10": row.p10, "p50": row.p50, "p90": row.p90,
                "horizon_hours": row.horizon_hours, "model_id": row.model_id,
            }
            for row in newest.itertuples()
        ],
        "portfolio": portfolio_summary(read(database, EQUITY), read(database, TRADES), read(database, POSITIONS)),
    }  # fmt: skip
