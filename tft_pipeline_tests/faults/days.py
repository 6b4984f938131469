"""Thirty days of hourly ticks with the machine off at random, runs killed and failing, and a source that is late: what is there at the
end must be what a machine that was never off would have made, each slice written as often as its content changed and no more."""

import os
import random
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import numpy as np
import psutil
import psycopg
from dagster._core.storage.tags import (
    AUTO_RETRY_RUN_ID_TAG,
    PARENT_RUN_ID_TAG,
    ROOT_RUN_ID_TAG,
    RUN_KEY_TAG,
    SCHEDULE_NAME_TAG,
    WILL_RETRY_TAG,
)  # fmt: skip

from tft_pipeline import crash_points
from tft_pipeline.config import Settings, load
from tft_pipeline.contracts import TABLES
from tft_pipeline.orchestration import healing, launch
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.reconciling import compare, reconcile
from tft_pipeline.orchestration.reporting import partitioned_assets
from tft_pipeline.orchestration.schedules import RANGE_END, RANGE_START, WATCHED
from tft_pipeline.storage import embedded
from tft_pipeline.storage.audit import damaged, disagreements
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline.storage.migrate import migrate
from tft_pipeline.storage.staleness import stale_days
from tft_pipeline_tests.faults.clocked import BEGIN, Clocked
from tft_pipeline_tests.faults.story import Story
from tft_pipeline_tests.faults.trials import Outcome, Suite
from tft_pipeline_tests.faults.world import TEMPLATE, VALUES, copy_of, duplicates, unbalanced

TICKS, SEEDS = 720, 3
START, TRAINED_ON = date(2026, 3, 30), date(2026, 5, 20)
TICK = timedelta(minutes=3)
NO_GRACE = timedelta(0)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
FREED_AFTER = timedelta(hours=2)  # run monitoring's max_runtime_seconds
# First third to last, after warm-up: SQLAlchemy's PGDialect keeps up to 128 engines' catalog queries (27 MiB), one more a tick, then none.
MOST_GROWTH_MIB, MOST_MORE_CONNECTIONS, WARM_UP = 16.0, 1.1, 140

Slices = dict[tuple[str, date], tuple[int, str, int]]  # rows, hash, generation


def at(tick: int) -> datetime:
    return BEGIN + timedelta(hours=tick) + TICK


def settings(home: Path, ticks: int) -> Settings:
    # The third ticker's split, at 45 % of simulation.days, then falls on 10 June: among the ticks.
    values = {**VALUES, "start": START, "end": at(ticks - 1).date(), "simulation": {"tickers": 3, "days": 160}}
    return load(home=home, **values)


@dataclass(frozen=True)
class World:
    """A server whose template ends the day before the first tick, and what a machine that was never off makes of the ticks."""

    server: EmbeddedServer
    home: Path
    ticks: int
    expected: Slices


@contextmanager
def session(ticks: int = TICKS, *, trained: bool = True) -> Iterator[Callable[[str], Outcome]]:
    """trained: False: no model; then the baseline alone speaks, and nothing is bought."""
    with world(ticks, trained=trained) as found:
        yield lambda key: trial(found, int(key))


SUITE = Suite(
    "thirty simulated days, hourly, with random downtime",
    f"{TICKS} ticks: exactly the expected slices, flat memory and connections",
    [str(seed) for seed in range(SEEDS)],
    session,
)


@contextmanager
def world(ticks: int, *, trained: bool) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="tft-days-") as folder, _environment_kept(), _one_thread():
        home = Path(folder)
        home.chmod(0o755)
        with embedded.start(home) as server:
            _without_fsync(server)
            first, last = BEGIN.date(), at(ticks - 1).date()
            migrate(Database(server.dsn(TEMPLATE)))
            with _machine(home, ticks, Database(server.dsn(TEMPLATE)), at(-1)) as machine:
                before = first - timedelta(days=1)
                if trained:
                    launch.run(machine.definitions, "history", machine.instance, START, before)
                    launch.run(machine.definitions, "retrain", machine.instance, TRAINED_ON, TRAINED_ON)
                    launch.run(machine.definitions, "outcome", machine.instance, START, before)
                else:
                    launch.run(machine.definitions, "refresh", machine.instance, START, before)
            with copy_of(server) as database, _machine(home, ticks, database, at(ticks - 1)) as machine:
                # From the day before: its last hour ends after the template was made.
                launch.run(machine.definitions, "refresh", machine.instance, before, last)
                expected = slices(database)
            yield World(server, home, ticks, expected)


def _without_fsync(server: EmbeddedServer) -> None:
    """No power is cut here."""
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")


@dataclass
class Machine:
    pipeline: Clocked
    definitions: dg.Definitions
    instance: dg.DagsterInstance


@contextmanager
def _machine(home: Path, ticks: int, database: Database, clock: datetime) -> Iterator[Machine]:
    pipeline = Clocked(settings(home, ticks), database, clock)
    definitions = build(pipeline.settings, pipeline)
    with launch.recorded_in(pipeline.settings, database.dsn) as instance:
        yield Machine(pipeline, definitions, instance)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """What `recorded_in` exports for Dagster ends with the session."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _one_thread() -> Iterator[None]:
    """No thread may run when a tick forks."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def trial(world: World, seed: int, story: Story | None = None) -> Outcome:
    """One machine from the first tick to the last. story: what befalls it; None: drawn by the seed."""
    drawn = random.Random(seed)
    story = story or Story.drawn(drawn, world.ticks)
    pieces = (
        patch.object(healing, "MOST_DAYS", 2) if seed % 2 else patch.object(healing, "MOST_DAYS", healing.MOST_DAYS)
    )
    with copy_of(world.server) as database, _machine(world.home, world.ticks, database, at(0)) as machine, pieces:
        watched = _Watch(machine, story, drawn)
        for tick in range(world.ticks):
            if tick not in story.off:
                watched.tick(tick)
        return watched.outcome(world)


class _Watch:
    """Goes from tick to tick and notes what should not be."""

    def __init__(self, machine: Machine, story: Story, drawn: random.Random) -> None:
        self.machine, self.story, self.drawn = machine, story, drawn
        self.pipeline, self.instance = machine.pipeline, machine.instance
        self.schedule = machine.definitions.resolve_schedule_def("hourly_refresh")
        self.repository = machine.definitions.get_repository_def()
        self.job = machine.definitions.resolve_job_def("refresh")
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.memory: list[float] = []
        self.connections: list[int] = []  # open after a tick
        self.opened: list[int] = []  # by a run over one day
        self.process = psutil.Process()
        self.hung: tuple[str, datetime] | None = None  # a killed run, still STARTED
        self.asked: set[str] = set()

    def tick(self, tick: int) -> None:
        """A look at the schedule and what it asks for, in an instance of its own, as each run has: SQLAlchemy keeps what it compiled."""
        with dg.DagsterInstance.get() as self.instance:
            self._look(tick)
        self.instance = self.machine.instance
        self.memory.append(self.process.memory_info().rss / 2**20)
        self.connections.append(_connections(self.pipeline.database))

    def _look(self, tick: int) -> None:
        now = self.pipeline.clock = at(tick)
        self.pipeline.silent = frozenset({self.pipeline.tickers[2]} if tick in self.story.silent else ())
        self.counts["ticks"] += 1
        self._free(now)
        context = dg.build_schedule_context(
            instance=self.instance, scheduled_execution_time=now, resources={"pipeline": self.pipeline}, repository_def=self.repository,
        )  # fmt: skip
        with context:
            evaluated = self.schedule.evaluate_tick(context)
        requests = list(evaluated.run_requests or [])
        if not requests:
            self.counts["waited for a run"] += self.hung is not None
            if not evaluated.skip_message:
                self.faults.append(f"{now}: skipped without a word")
        for request in requests:
            self._run(tick, now, request)
        if len(requests) > 1:
            self.faults.append(f"{now}: {len(requests)} runs at once")

    def _run(self, tick: int, now: datetime, request: dg.RunRequest) -> None:
        first, last = (date.fromisoformat(request.tags[tag]) for tag in (RANGE_START, RANGE_END))
        if self.hung is not None:
            self.faults.append(f"{now}: a second refresh beside one in progress")
        if (request.run_key or "") in self.asked:
            self.faults.append(f"{now}: run key {request.run_key} stood before")
        self.asked.add(request.run_key or "")
        behind = self._stale()
        needless = [day for day in _days(first, last) if day not in behind]
        self.counts["days done again after a heal"] += len(needless)
        if needless and not any(day < needless[0] for day in behind) and "healed" not in request.tags["tft/reason"]:
            self.faults.append(f"{now}: {needless[0]} was complete and asked for again")
        before = slices(self.pipeline.database)
        tags = {**request.tags, SCHEDULE_NAME_TAG: self.schedule.name, RUN_KEY_TAG: request.run_key or ""}
        fate = self.story.befalls.get(tick)
        self.counts["runs"] += 1
        if fate == "killed":
            self._killed(now, tags)
        else:
            self.pipeline.fails_at = self.drawn.choice(WATCHED).name if fate == "fails" else None
            opened = _opened(self.pipeline.database)
            outcome = self._execute(tags)
            if first == last and outcome.success:
                self.opened.append(_opened(self.pipeline.database) - opened)
            self.pipeline.fails_at = None
            self.counts["runs that failed"] += not outcome.success
            if outcome.success == (fate == "fails"):
                self.faults.append(f"{now}: success is {outcome.success}, and the plan was {fate}")
            left = [day for day in self._stale() if first <= day <= last]
            if outcome.success and left and not self.pipeline.silent:
                self.faults.append(f"{now}: {first} to {last} succeeded and left {left} behind")
        for where, (rows, content, generation) in slices(self.pipeline.database).items():
            old = before.get(where)
            if old != (rows, content, generation):
                self.counts["slices written"] += 1
                if old is not None and old[:2] == (rows, content):
                    self.faults.append(f"{now}: {where[0]} of {where[1]} was written again, and holds what it held")

    def _execute(self, tags: Mapping[str, str]) -> dg.ExecuteInProcessResult:
        return self.job.execute_in_process(instance=self.instance, tags=tags, run_config=QUIET, raise_on_error=False)

    def _killed(self, now: datetime, tags: Mapping[str, str]) -> None:
        """A child takes the run and dies at a point drawn by the seed: SIGKILL, in the middle of whatever it was at."""
        point, visit = self.drawn.choice(crash_points.NAMES), self.drawn.randint(1, 6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: of forks beside threads that wait
            child = os.fork()
        if child == 0:
            try:
                crash_points.arm(point, visit)
                self._execute(tags)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            self.counts["runs killed"] += 1
            (run,) = self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            self.hung = (run.run_id, now)

    def _free(self, now: datetime) -> None:
        """What run monitoring and run retries do with a run whose worker is gone: fail it, and run it again."""
        if self.hung is None or now - self.hung[1] < FREED_AFTER:
            return
        run = self.instance.get_run_by_id(self.hung[0])
        assert run is not None
        self.instance.report_run_failed(run, "its maximum runtime is over")
        tags = {name: value for name, value in run.tags.items() if name != WILL_RETRY_TAG}
        again = self._execute({**tags, PARENT_RUN_ID_TAG: run.run_id, ROOT_RUN_ID_TAG: run.run_id})
        self.instance.add_run_tags(run.run_id, {AUTO_RETRY_RUN_ID_TAG: again.run_id})
        self.counts["runs retried by Dagster"] += 1
        self.hung = None

    def _stale(self) -> list[date]:
        now = self.pipeline.clock
        due = now.replace(minute=0)
        return stale_days(self.pipeline.database, WATCHED, first=START, last=now.date(), due=due)

    def outcome(self, world: World) -> Outcome:
        database = self.pipeline.database
        found = slices(database)
        for where in sorted(found.keys() | world.expected.keys()):
            held, wanted = found.get(where), world.expected.get(where)
            if held is None or wanted is None or held[:2] != wanted[:2]:
                self.faults.append(f"{where[0]} of {where[1]}: {held and held[:2]} instead of {wanted and wanted[:2]}")
        self.faults += [f"{day} is stale at the end" for day in self._stale()]
        self.faults += damaged(database) + disagreements(database) + duplicates(database) + unbalanced(database)
        emitted = reconcile(self.instance, database, partitioned_assets(), grace=NO_GRACE)
        left = compare(self.instance, database, partitioned_assets(), now=datetime.now().astimezone(), grace=NO_GRACE)
        if left.unrecorded or left.missing:
            self.faults.append(f"after the reconciler: {len(left.unrecorded)} commits without events, {left.missing}")
        self.faults += _events_twice(database)
        first, last = _thirds(self.memory)
        if len(self.memory) > 2 * WARM_UP and last - first > MOST_GROWTH_MIB:
            self.faults.append(f"memory grew from {first:.0f} to {last:.0f} MiB")
        if max(self.connections) > 0:
            self.faults.append(f"{max(self.connections)} connections were left open after a tick")
        few, many = _thirds(self.opened)
        if len(self.opened) > 10 and many > few * MOST_MORE_CONNECTIONS:
            self.faults.append(f"a run opened {few:.0f} connections in the first third, {many:.0f} in the last")
        return Outcome(
            self.faults,
            {
                **self.counts, "ticks off": len(self.story.off), "slices compared": len(world.expected), "events re-emitted": emitted,
                "MiB grown, first third to last": round(last - first, 1), "connections opened": self.counts["runs"] * many,
                "connections left open": max(self.connections),
            },
        )  # fmt: skip


def slices(database: Database) -> Slices:
    """Of every table's every day: rows, content hash, generation."""
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT table_name, slice_day, row_count, content_hash, generation FROM ops.slices WHERE table_name = ANY(%s)",
            ([table.name for table in TABLES],),
        ).fetchall()
    return {(name, day): (count, content, generation) for name, day, count, content, generation in rows}


def _events_twice(database: Database) -> list[str]:
    """Days of which one run has told twice."""
    with database.connect() as connection:
        rows = connection.execute(
            """
            SELECT asset_key, partition, run_id, count(*) FROM event_logs
            WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND run_id <> '' GROUP BY 1, 2, 3 HAVING count(*) > 1"""
        ).fetchall()
    return [f"{asset} of {day}: run {run_id[:8]} told of it {count} times" for asset, day, run_id, count in rows]


def _connections(database: Database) -> int:
    with database.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    return int(row[0]) if row else 0


def _opened(database: Database) -> int:
    """Connections to this database that have ended so far."""
    with database.connect() as connection:
        row = connection.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").fetchone()
    return int(row[0]) if row else 0


def _thirds(figures: list[float] | list[int]) -> tuple[float, float]:
    """Medians of the first and the last third, after the warm-up; of all where a trial is as short as that."""
    warm = np.array(figures[WARM_UP:] if len(figures) > 2 * WARM_UP else figures, dtype=float)
    if not len(warm):
        return 0.0, 0.0
    third = max(1, len(warm) // 3)
    return float(np.median(warm[:third])), float(np.median(warm[-third:]))


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
