"""How often an asset is tried, and how long it waits between: for what may pass by itself, and for nothing else."""

import dagster as dg
import pytest

from tft_pipeline.errors import ContractError, PipelineError, SourceError, StorageError
from tft_pipeline.orchestration import reporting


def waits_of(failures: list[Exception]) -> tuple[bool, list[float], int]:
    """A run of an asset that raises these, one a try, and then is well: whether it succeeded, seconds waited before each retry, tries."""
    left, tries = list(failures), []

    def moody(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """An asset."""
        tries.append(context.retry_number)
        if left:
            raise left.pop(0)
        return dg.MaterializeResult()

    asset = dg.asset(name="moody")(reporting._patient(moody))
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = dg.materialize(
            [asset], instance=instance, raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip
        waits = [
            float(event.event_specific_data.seconds_to_wait)
            for event in outcome.all_events
            if event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY
        ]
    assert tries == list(range(len(tries)))
    return outcome.success, waits, len(tries)


def busy() -> StorageError:
    return StorageError("the server is busy.", transient=True)


def test_by_default_half_a_minute_is_waited_in_four_retries() -> None:
    assert reporting.MAX_RETRIES == 4
    assert sum(reporting.FIRST_WAIT_SECONDS * 2**number for number in range(reporting.MAX_RETRIES)) == 30


def test_each_wait_is_twice_the_one_before_give_or_take_half_and_the_fifth_failure_is_the_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reporting, "FIRST_WAIT_SECONDS", 0.02)
    success, waits, tries = waits_of([busy() for _ in range(9)])
    assert (success, len(waits), tries) == (False, 4, 5)
    for number, seconds in enumerate(waits):
        assert 0.5 * 0.02 * 2**number <= seconds <= 1.5 * 0.02 * 2**number
    # Drawn anew each time: runs that failed together do not come back together.
    assert waits_of([busy() for _ in range(9)])[1] != waits


@pytest.mark.parametrize("failures", [1, 4])
def test_trouble_that_passes_in_time_is_forgotten(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "FIRST_WAIT_SECONDS", 0.01)
    success, waits, tries = waits_of([SourceError("429.", transient=True) for _ in range(failures)])
    assert (success, len(waits), tries) == (True, failures, failures + 1)


@pytest.mark.parametrize(
    "error",
    [ContractError("a column is missing."), StorageError("read-only."), PipelineError("no."), KeyError("a bug")],
)
def test_what_does_not_pass_by_itself_is_tried_once(error: Exception) -> None:
    assert waits_of([error]) == (False, [], 1)


def test_trouble_that_turns_into_a_fact_ends_the_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "FIRST_WAIT_SECONDS", 0.01)
    success, waits, tries = waits_of([busy(), ContractError("a column is missing.")])
    assert (success, len(waits), tries) == (False, 1, 2)
