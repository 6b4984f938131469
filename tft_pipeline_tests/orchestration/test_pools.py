"""What the pools rest on: each has one place, and no run claims anything that it could leave behind. Who waits for whom: faults/test_processes.py."""

from collections.abc import Iterator
from unittest.mock import MagicMock

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import PoolGranularity
from dagster._core.op_concurrency_limits_counter import GlobalOpConcurrencyLimitsCounter
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.storage.dagster_run import RunOpConcurrency

from tft_pipeline import config
from tft_pipeline.orchestration.assets import ALL

ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__"), "retrain")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """With the project's own pools."""
    content = yaml.safe_load(config.bundled("dagster.yaml").read_text())
    with dg.instance_for_test(overrides={"concurrency": {"pools": content["concurrency"]["pools"]}}) as made:
        yield made


def claims(instance: dg.DagsterInstance, pool: str) -> tuple[int, int]:
    """(places of the pool, how many of them are claimed) while an asset of it is being made."""
    found = []

    @dg.asset(pool=pool)
    def one() -> None:
        info = instance.event_log_storage.get_concurrency_info(pool)
        found.append((info.slot_count, len(info.claimed_slots)))

    assert dg.materialize([one], instance=instance).success
    return found[0]


def test_every_pool_has_one_place_of_which_a_run_claims_nothing(instance: dg.DagsterInstance) -> None:
    settings = instance.get_concurrency_config().pool_config
    assert (settings.pool_granularity, settings.default_pool_limit) == (PoolGranularity.RUN, 1)
    instance.event_log_storage.initialize_concurrency_limit_to_default("gpu")
    assert claims(instance, "gpu") == (1, 0)


def test_with_pools_of_single_assets_a_place_would_be_claimed() -> None:
    pools = {"pools": {"granularity": "op", "default_limit": 1}}
    with dg.instance_for_test(overrides={"concurrency": pools}) as instance:
        assert claims(instance, "gpu") == (1, 1)


def launched_at_one_look(instance: dg.DagsterInstance, runs: list[dg.DagsterRun]) -> list[bool]:
    """Which of the queued runs the daemon would launch at one look at them, counting as it does."""
    counter = GlobalOpConcurrencyLimitsCounter(
        instance, runs, [], concurrency_keys=instance.event_log_storage.get_concurrency_keys(),
        pool_limits=instance.event_log_storage.get_pool_limits(), pool_granularity=PoolGranularity.RUN,
    )  # fmt: skip
    found = []
    for run in runs:
        found.append(not counter.is_blocked(run))
        if found[-1]:
            counter.update_counters_with_launched_item(run)
    return found


@pytest.mark.parametrize(("ours", "launched"), [(True, [True, False]), (False, [True, True])])
def test_the_limit_holds_for_the_first_runs_of_a_pool(ours: bool, launched: list[bool]) -> None:
    content = yaml.safe_load(config.bundled("dagster.yaml").read_text())
    own = {name: content[name] for name in ("concurrency", "run_coordinator")}
    if not ours:
        own["run_coordinator"] |= {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"}
    wants = RunOpConcurrency(all_pools={"gpu"}, root_key_counts={"gpu": 1}, has_unconstrained_root_nodes=False)
    with dg.instance_for_test(overrides=own) as instance:
        runs = [dg.DagsterRun("retrain", run_op_concurrency=wants, remote_job_origin=ORIGIN) for _ in range(2)]
        for run in runs:
            instance.add_run(run)
            instance.run_coordinator.submit_run(SubmitRunContext(run, MagicMock()))
        assert launched_at_one_look(instance, runs) == launched


def test_each_source_with_a_quota_and_the_accelerator_has_its_pool() -> None:
    pools = {asset.key.to_user_string(): asset.op.pool for asset in ALL if asset.op.pool is not None}
    assert pools == {"corporate_actions": "yahoo", "market_bars": "yahoo", "social_posts": "reddit", "tft_model": "gpu"}
