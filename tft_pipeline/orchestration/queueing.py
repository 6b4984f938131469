"""How runs are queued: as Dagster does by itself, with each pool known before its first run is looked at."""

import dagster as dg
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext


class PooledRunCoordinator(QueuedRunCoordinator):
    """Dagster's daemon reads which pools there are before it notes new ones: of a pool that it never heard of, it launches all runs at once."""

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        wanted = context.dagster_run.run_op_concurrency
        storage = self._instance.event_log_storage
        for pool in sorted(set(wanted.all_pools or () if wanted is not None else ()) - storage.get_concurrency_keys()):
            storage.initialize_concurrency_limit_to_default(pool)
        return super().submit_run(context)
