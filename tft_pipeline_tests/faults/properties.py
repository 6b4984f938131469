"""Bars, time zones and daylight saving: what must hold of everything that hypothesis can think of.

A property says how much it saw of what it is about: a trial that saw nothing of it proves nothing, and is a fault.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, partial
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tft_pipeline import schema
from tft_pipeline.config import day_start
from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.errors import ContractError
from tft_pipeline.market.quality import PRICES, judge
from tft_pipeline.market.sessions import Calendar
from tft_pipeline.storage import binary, merge, partitions, slices
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.read import Connection, read
from tft_pipeline_tests.faults.scratch import EMPTY, empty_server
from tft_pipeline_tests.faults.trials import Outcome, Suite, raised
from tft_pipeline_tests.faults.world import copy_of

EXAMPLES = 1000  # of a trial
ROWS = 6  # of an example, at most
ZONES = [ZoneInfo("America/New_York"), ZoneInfo("Europe/London"), ZoneInfo("Australia/Sydney")]
YEARS = (2005, 2025)
STORED_YEAR = 2026  # one, whose partitions are made once
HOUR = timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS_A_DAY = 86_400_000_000
_NO_BARS, _NO_ACTIONS = BARS.empty(), ACTIONS.empty()
_DTYPES = _NO_BARS.dtypes.to_dict()


@dataclass(frozen=True)
class Exchange:
    calendar: Calendar
    zone: ZoneInfo
    opens: time  # by the clock on the wall there, every day of YEARS
    closes: tuple[time, ...]


EXCHANGES = [
    Exchange(Calendar("XNYS"), ZONES[0], time(9, 30), (time(16), time(13))),
    Exchange(Calendar("XLON"), ZONES[1], time(8), (time(16, 30), time(12, 30))),
    Exchange(Calendar("XASX"), ZONES[2], time(10), (time(16), time(14, 10))),
]
_ALWAYS_OPEN = Calendar("24/7")


@dataclass(frozen=True)
class Property:
    """holds: raises where it does not; returns how many it saw of `seen`. draws: what a trial of this number draws."""

    holds: Callable[..., int]
    draws: Callable[[int], st.SearchStrategy[Any]]
    seen: str
    in_database: bool = False  # holds takes a connection, too


@cache
def changes(zone: ZoneInfo, first_year: int, last_year: int) -> list[datetime]:
    """When its clocks are moved, UTC."""
    hours = int((datetime(last_year + 1, 1, 1, tzinfo=UTC) - datetime(first_year, 1, 1, tzinfo=UTC)) / HOUR)
    days = [datetime(first_year, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(hours // 24)]
    moved = [d for d in days if d.astimezone(zone).utcoffset() != (d + timedelta(days=1)).astimezone(zone).utcoffset()]
    within = [day + n * HOUR for day in moved for n in range(24)]
    return [m + HOUR for m in within if m.astimezone(zone).utcoffset() != (m + HOUR).astimezone(zone).utcoffset()]


def midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)


def moments(first_year: int, last_year: int) -> st.SearchStrategy[datetime]:
    """Around changes of clocks and midnights, UTC's and others', to the microsecond; and any."""
    first, last = date(first_year, 1, 2), date(last_year, 12, 30)
    moved = [moment for zone in ZONES for moment in changes(zone, first_year, last_year)]
    at_night = st.builds(midnight, st.dates(first, last), st.sampled_from([*ZONES, ZoneInfo("UTC")]))
    steps = [timedelta(0), timedelta(microseconds=1), timedelta(minutes=30), HOUR]
    near = st.one_of(
        st.sampled_from([sign * step for step in steps for sign in (1, -1)]), st.timedeltas(-10 * HOUR, 10 * HOUR)
    )
    drawn = st.builds(datetime.__add__, st.one_of(st.sampled_from(moved), at_night), near)
    bare = datetime.combine(first, time()), datetime.combine(last, time())  # as hypothesis wants them
    return st.one_of(drawn, drawn, st.datetimes(*bare, timezones=st.just(UTC)))


def utc_day(moment: datetime) -> date:
    """By counting, with no calendar's help."""
    return date(1970, 1, 1) + timedelta(days=_count(moment) // _MICROSECONDS_A_DAY)


def _count(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _typed(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows).astype(_DTYPES)[BARS.names]


# Quarantine


@st.composite
def sent_bars(draw: st.DrawFn) -> tuple[pd.DataFrame, bool]:
    """A few rows as a source might send them, and whether it took care: mostly sound, now and then one field that cannot be."""
    level = draw(st.floats(0.01, 1e5))
    move, wick = st.floats(-0.2, 0.2), st.floats(0, 0.5)
    strange = st.one_of(
        st.floats(-1e4, 1e5), st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.0, 100 * level])
    )
    rows: list[dict[str, Any]] = []
    careful = True
    for _ in range(draw(st.integers(1, ROWS))):
        start = draw(_SENT).replace(minute=draw(st.sampled_from([0, 30])), second=0, microsecond=0)
        end = start + draw(st.sampled_from([HOUR, HOUR / 2]))
        opened, closed = level * (1 + draw(move)), level * (1 + draw(move))
        row = {
            "ticker": draw(st.sampled_from(["AAPL", "BRK.B"])), "bar_start": start, "bar_end": end, "open": opened,
            "high": max(opened, closed) * (1 + draw(wick)), "low": min(opened, closed) * (1 - draw(wick)), "close": closed,
            "volume": draw(st.sampled_from([0.0, -0.0, 1e6])), "source": "hypothesis",
            "known_at": end + draw(st.sampled_from([timedelta(0), timedelta(minutes=15)])),
        }  # fmt: skip
        if draw(st.integers(0, 4)) == 0:
            careful = False
            field = draw(st.sampled_from([*PRICES, "volume", "bar_end", "again"]))
            if field == "bar_end":
                row["bar_end"] = start - draw(st.sampled_from([timedelta(0), HOUR]))
            elif field == "again":
                row |= {"ticker": rows[-1]["ticker"], "bar_start": rows[-1]["bar_start"]} if rows else {}
            else:
                row[field] = draw(strange)
        rows.append(row)
    frame = _typed(rows)
    return frame, careful and not frame.duplicated(list(BARS.key)).any()


_SENT = moments(*YEARS)


def quarantine_parts_the_rows(sent: tuple[pd.DataFrame, bool]) -> int:
    """Each row is good, as it was sent, and keeps the contract, or it is refused with a reason; what is sound is not refused."""
    rows, sound = sent
    verdict = judge(rows, _NO_ACTIONS, before=_NO_BARS)
    assert len(verdict.good) + len(verdict.rejected) == len(rows)
    assert verdict.rejected["reason"].str.len().gt(0).all()
    assert _counted(verdict.good) <= _counted(rows)
    assert verdict.rejected.empty or not sound
    return len(schema.validate(verdict.good, BARS))


def good_rows_stay_good_on_the_wire(sent: tuple[pd.DataFrame, bool]) -> int:
    """They come out of it as they went in, and would be found good again, each of them."""
    verdict = judge(sent[0], _NO_ACTIONS, before=_NO_BARS)
    came = sent_and_received(verdict.good)
    if len(verdict.rejected):  # else they were all judged together already
        pd.testing.assert_frame_equal(judge(came, _NO_ACTIONS, before=_NO_BARS).good, verdict.good, check_exact=True)
    return len(came)


def sent_and_received(frame: pd.DataFrame) -> pd.DataFrame:
    """What is decoded of what was encoded is what went in, value for value and bit for bit."""
    came = binary.decode(messages(_encoded(frame)), binary.order(BARS.columns))[BARS.names]
    pd.testing.assert_frame_equal(came, frame, check_exact=True)
    for name in [*PRICES, "volume"]:  # 0.0 == -0.0, and yet they are two
        assert came[name].to_numpy().tobytes() == frame[name].to_numpy().tobytes(), name
    return came


def messages(stream: bytes) -> list[bytes]:
    """A binary COPY cut as PostgreSQL sends it: the header, a row each, the trailer. By its documentation, not by binary.py."""
    at = 19
    found = [stream[:at]]
    while (fields := struct.unpack_from("!h", stream, at)[0]) >= 0:
        begins, at = at, at + 2
        for _ in range(fields):
            at += 4 + max(struct.unpack_from("!i", stream, at)[0], 0)
        found.append(stream[begins:at])
    assert stream[at:] == b"\xff\xff"
    return [*found, stream[at:]]


def _encoded(frame: pd.DataFrame) -> bytes:
    return b"".join(binary.encode(frame, binary.order(BARS.columns), where=BARS.name))


def _counted(rows: pd.DataFrame) -> Counter[tuple[Any, ...]]:
    return Counter(rows.itertuples(index=False, name=None))


# UTC days


def zoned(first_year: int, last_year: int) -> st.SearchStrategy[tuple[list[datetime], ZoneInfo]]:
    """Moments, and a zone whose calendar has other days."""
    return st.tuples(
        st.lists(moments(first_year, last_year), min_size=1, max_size=ROWS, unique=True),
        st.sampled_from(ZONES),
    )


def starting(at: Sequence[datetime]) -> pd.DataFrame:
    """Sound bars of one ticker."""
    return _typed(
        [
            {
                "ticker": "AAPL", "bar_start": start, "bar_end": start + HOUR, "open": 9.0, "high": 12.0, "low": 8.0, "close": 11.0,
                "volume": 1.0, "source": "hypothesis", "known_at": start + HOUR,
            }
            for start in at
        ]
    )  # fmt: skip


def by_utc_day(at: Sequence[datetime]) -> dict[date, list[datetime]]:
    """Ascending in both."""
    found: dict[date, list[datetime]] = {}
    for moment in sorted(at):
        found.setdefault(utc_day(moment), []).append(moment)
    return found


def elsewhere(at: Sequence[datetime], zone: ZoneInfo) -> int:
    """How many of them lie on another day by the zone's calendar."""
    return sum(moment.astimezone(zone).date() != utc_day(moment) for moment in at)


def rows_fall_into_their_utc_day(drawn: tuple[list[datetime], ZoneInfo]) -> int:
    """Whatever the zone and the resolution of the pandas column; named by the zone's days instead, strays are refused."""
    at, zone = drawn
    rows, expected = starting(at), by_utc_day(at)
    local = rows["bar_start"].dt.tz_convert(str(zone))
    for column in (rows["bar_start"], local, local.dt.as_unit("ns")):
        frame = rows.assign(bar_start=column)
        parts = slices._by_day(frame, BARS, list(expected))
        assert parts.days == list(expected)
        for day, held in expected.items():
            assert sorted(schema.utc(parts.rows([day])["bar_start"])) == held
        assert _encoded(frame) == _encoded(rows)
        pd.testing.assert_series_equal(schema.utc(column), rows["bar_start"])
    named = sorted({moment.astimezone(zone).date() for moment in at})
    strays = [moment for day, held in expected.items() if day not in named for moment in held]
    try:
        slices._by_day(rows, BARS, named)
    except ContractError as error:
        refused = str(error)
    else:
        refused = ""
    assert refused.startswith(f"{BARS.name}: {len(strays)} row(s) lie outside the days" if strays else "")
    assert bool(refused) == bool(strays)
    return elsewhere(at, zone)


def stored_rows_fall_into_their_utc_day(connection: Connection, drawn: tuple[list[datetime], ZoneInfo]) -> int:
    """Whatever the connection's time zone: in the ledger, in the table, and when they are read again."""
    at, zone = drawn
    rows, expected = starting(sorted(at)), by_utc_day(at)
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('TimeZone', %s, true)", (str(zone),))
        merged = merge.merge(connection, BARS, rows, list(expected), merge.Writer(1, "hypothesis", "0", None))
        assert {day: content.rows for day, content in merged.contents.items()} == {
            day: len(held) for day, held in expected.items()
        }
        ledger = connection.execute("SELECT slice_day, row_count, reaches_to FROM ops.slices ORDER BY 1").fetchall()
        # In UTC: Python calls a moment of a doubled hour unequal to the same moment in another zone (PEP 495).
        assert [(day, rows, reach.astimezone(UTC)) for day, rows, reach in ledger] == [
            (day, len(held), day_start(day) + timedelta(days=1)) for day, held in expected.items()
        ]
        day = next(iter(expected))
        found = read(connection, BARS, day_start(day), day_start(day + timedelta(days=1)))
        pd.testing.assert_frame_equal(found, rows.iloc[: len(expected[day])], check_exact=True)
        pd.testing.assert_frame_equal(read(connection, BARS), rows, check_exact=True)
    return elsewhere(at, zone)


# Sessions


def spans(number: int) -> st.SearchStrategy[tuple[Exchange, date, int, int]]:
    """An exchange, a first day, often next to a change of its clocks, how many, and the minute at which bars begin."""
    exchange = EXCHANGES[number % len(EXCHANGES)]
    return st.tuples(
        st.just(exchange), days_near_changes(exchange.zone), st.integers(1, 8), st.sampled_from([0, 0, 30, 30, 15, 45])
    )


def days_near_changes(zone: ZoneInfo) -> st.SearchStrategy[date]:
    moved = [moment.astimezone(zone).date() for moment in changes(zone, *YEARS)]
    near = st.builds(lambda day, off: day + timedelta(days=off), st.sampled_from(moved), st.integers(-3, 1))
    return st.one_of(near, near, st.dates(date(YEARS[0], 1, 3), date(YEARS[1], 12, 31)))


def bars_fill_their_session(drawn: tuple[Exchange, date, int, int]) -> int:
    """They follow one another without overlap or hole, an hour each, from the open to the close by the clock on the wall."""
    exchange, first, count, phase = drawn
    end = first + timedelta(days=count)
    grid = exchange.calendar.bar_grid(first, end, phase_minutes=phase)
    sessions = exchange.calendar.sessions(first, end)
    assert grid["bar_start"].is_monotonic_increasing
    assert (grid["bar_end"] > grid["bar_start"]).all()
    assert (grid["bar_start"].iloc[1:].to_numpy() >= grid["bar_end"].iloc[:-1].to_numpy()).all()
    assert grid["session_open"].drop_duplicates().tolist() == sessions["session_open"].tolist()
    previous = grid["bar_start"].iloc[:1].tolist() + grid["bar_end"].iloc[:-1].tolist()
    assert grid["previous_bar_end"].tolist() == previous
    days = sessions["day_start"].dt.date.tolist()
    for day, (_, bars) in zip(days, grid.groupby("session_open"), strict=True):
        opened, closed = bars["session_open"].iloc[0], bars["session_close"].iloc[0]
        starts, ends = bars["bar_start"].tolist(), bars["bar_end"].tolist()
        assert first <= day < end
        assert opened == datetime.combine(day, exchange.opens, tzinfo=exchange.zone)
        assert closed in [datetime.combine(day, wall, tzinfo=exchange.zone) for wall in exchange.closes]
        assert starts[1:] == ends[:-1]
        assert {start.minute for start in starts} == {phase}
        assert {after - before for before, after in pairwise(starts)} <= {HOUR}
        assert starts[0] <= opened < starts[0] + HOUR
        assert starts[-1] < closed <= starts[-1] + HOUR
        assert ends[-1] == (starts[-1] + HOUR if phase == 0 else closed)
    return len(grid)


def wall_days(number: int) -> st.SearchStrategy[tuple[ZoneInfo, date]]:
    zone = ZONES[number % len(ZONES)]
    return st.tuples(st.just(zone), days_near_changes(zone))


def a_wall_day_has_the_hours_that_pass(drawn: tuple[ZoneInfo, date]) -> int:
    """Of a market that never closes: a wall clock's hour that comes twice is two bars, one that is skipped is none, each an hour of UTC."""
    zone, day = drawn
    grid = _ALWAYS_OPEN.bar_grid(day - timedelta(days=2), day + timedelta(days=3), phase_minutes=0)
    starts = grid["bar_start"].dt.tz_convert(str(zone))
    bars = grid[starts.dt.date == day]
    begins, ends = midnight(day, zone), midnight(day + timedelta(days=1), zone)
    hours = (ends - begins) // HOUR
    passing = [begins + n * HOUR for n in range(hours)]
    assert bars["bar_start"].tolist() == passing
    assert bars["bar_end"].tolist() == [moment + HOUR for moment in passing]
    seen = starts[bars.index].dt.hour.tolist()
    assert seen == [moment.astimezone(zone).hour for moment in passing]
    assert (hours, len(set(seen))) in ((23, 23), (24, 24), (25, 24))
    return len(bars) if hours != 24 else 0


PROPERTIES: dict[str, Property] = {
    "quarantine": Property(quarantine_parts_the_rows, lambda _: sent_bars(), "good rows"),
    "wire": Property(good_rows_stay_good_on_the_wire, lambda _: sent_bars(), "good rows encoded and decoded"),
    "days": Property(rows_fall_into_their_utc_day, lambda _: zoned(*YEARS), "rows on another day elsewhere"),
    "stored": Property(
        stored_rows_fall_into_their_utc_day, lambda _: zoned(STORED_YEAR, STORED_YEAR), "stored rows on another day elsewhere", True
    ),
    "grids": Property(bars_fill_their_session, spans, "bars of sessions"),
    "hours": Property(a_wall_day_has_the_hours_that_pass, wall_days, "bars of days of 23 or 25 hours"),
}  # fmt: skip


@contextmanager
def session() -> Iterator[Callable[[str], Outcome]]:
    with empty_server() as (server, _), copy_of(server, EMPTY) as database:
        months = [date(STORED_YEAR + n // 12, n % 12 + 1, 1) for n in range(-1, 13)]
        partitions.ensure(database, partitions.of_table(BARS), months)
        yield lambda key: check(key, database)


SUITE = Suite(
    "property tests on bars, time zones, daylight saving", "50,000 examples",
    [f"{name} {number}" for number in range(9) for name in PROPERTIES][:50], session,
)  # fmt: skip


def check(key: str, database: Database) -> Outcome:
    name, number = key.split(" ")
    tried = PROPERTIES[name]
    if not tried.in_database:
        return _check(tried, tried.holds, int(number))
    with database.connect() as connection, connection.transaction(force_rollback=True):
        merge.stage(connection, BARS)
        return _check(tried, partial(tried.holds, connection), int(number))


def _check(tried: Property, holds: Callable[[Any], int], number: int) -> Outcome:
    counts = {"examples": 0, tried.seen: 0}

    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(tried.draws(number))
    def run(drawn: Any) -> None:
        counts["examples"] += 1
        counts[tried.seen] += holds(drawn)

    try:
        run()
    except Exception as error:
        return Outcome([raised(error)], dict(counts))
    faults = [] if counts[tried.seen] else [f"in {counts['examples']} examples there were no {tried.seen}"]
    return Outcome(faults, dict(counts))
