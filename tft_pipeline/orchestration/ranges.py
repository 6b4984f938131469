"""One job over a range of days, in this process, recorded in the instance: what `backfill` and `train` do."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from tft_pipeline.config import Settings
from tft_pipeline.errors import ConfigError
from tft_pipeline.orchestration import launch
from tft_pipeline.orchestration.assets import HISTORY
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.membership import TICKERS_TAG
from tft_pipeline.orchestration.partitions import days
from tft_pipeline.orchestration.resources import Pipeline, Progress
from tft_pipeline.orchestration.settling import check_sources, settle
from tft_pipeline.storage.audit import rows_written_by
from tft_pipeline.storage.opening import open_database
from tft_pipeline.storage.universe import checked

_WITHOUT_TICKERS = "social_posts"  # posts that are there are read again; none are fetched for some tickers


def run_range(
    settings: Settings, job: str, first: date, last: date, *, run_config: Mapping[str, Any] | None, progress: Progress,
    tickers: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Run job over first to last; its run id, rows written by table, seconds by asset.

    tickers: the history of these only, whatever the job: no source is asked for another, and no other ticker's row is written.
    Raises ConfigError: days that do not exist, or a ticker that is not in the universe.
    """
    of_some: dict[str, Any] = {}
    if tickers:
        job, names = "history", [asset.key.to_user_string() for asset in HISTORY]
        of_some = {
            "tags": {TICKERS_TAG: ",".join(checked(tickers))},
            "assets": [name for name in names if name != _WITHOUT_TICKERS],
        }
    check_sources(settings)
    settings = settle(settings)
    known = days(settings).get_partition_keys()
    for day in (first, last):
        if day.isoformat() not in known:
            raise ConfigError(f"{day} is no day of {settings.market}: its days run from {known[0]} to {known[-1]}.")
    with open_database(settings) as database:
        pipeline = Pipeline(settings, database=database, progress=progress)
        pipeline.about(tickers or None)
        with launch.recorded_in(settings, database.dsn) as instance:
            run_id = launch.run(build(settings, pipeline), job, instance, first, last, run_config=run_config, **of_some)
        written = rows_written_by(database, [run_id])
        waiting = [
            one.ticker for one in pipeline.membership.intervals if one.removed_at is None and one.member_from is None
        ]
    return {
        "job": job, "from": first.isoformat(), "to": last.isoformat(), "run_id": run_id, "rows_written": written,
        "seconds": pipeline.seconds, "simulated": settings.simulated,
        **({"tickers": list(tickers), "waiting": [ticker for ticker in waiting if ticker in tickers]} if tickers else {}),
    }  # fmt: skip
