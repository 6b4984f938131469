"""Bars, time zones and daylight saving: what must hold of every frame that hypothesis can think of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tft_pipeline import schema
from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.market.quality import judge
from tft_pipeline.market.sessions import Calendar
from tft_pipeline.storage import binary
from tft_pipeline_tests.faults.trials import Outcome, Suite

EXAMPLES = 1000  # of a trial
NEW_YORK = ZoneInfo("America/New_York")
_prices = st.one_of(
    st.floats(min_value=-1e4, max_value=1e5), st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.0])
)
_moments = st.datetimes(datetime(2005, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants them bare


@st.composite
def bars(draw: st.DrawFn) -> pd.DataFrame:
    """A few rows as a careless source might send them: around DST changes, doubled, with prices that cannot be."""
    count = draw(st.integers(1, 6))
    rows = []
    for _ in range(count):
        start = draw(_moments).replace(minute=draw(st.sampled_from([0, 30])), second=0, microsecond=0)
        length = draw(st.sampled_from([timedelta(hours=1), timedelta(minutes=30), timedelta(0), timedelta(hours=-1)]))
        rows.append(
            {
                "ticker": draw(st.sampled_from(["AAPL", "BRK.B"])), "bar_start": start, "bar_end": start + length, "open": draw(_prices),
                "high": draw(_prices), "low": draw(_prices), "close": draw(_prices), "volume": draw(_prices), "source": "hypothesis",
                "known_at": start + length + draw(st.sampled_from([timedelta(0), timedelta(minutes=15)])),
            }
        )  # fmt: skip
    return pd.DataFrame(rows).astype(BARS.empty().dtypes.to_dict())[BARS.names]


def quarantine_is_a_partition_of_the_rows(rows: pd.DataFrame) -> None:
    """Each row is good or refused with a reason, never both, never neither; what is good keeps the contract and survives the wire."""
    verdict = judge(rows, ACTIONS.empty(), before=BARS.empty())
    assert len(verdict.good) + len(verdict.rejected) == len(rows)
    assert verdict.rejected["reason"].str.len().gt(0).all()
    good = schema.validate(verdict.good, BARS)
    columns = binary.order(BARS.columns)
    encoded = b"".join(bytes(chunk) for chunk in binary.encode(good, columns, where="bars"))
    assert encoded.startswith(b"PGCOPY")
    again = judge(good, ACTIONS.empty(), before=BARS.empty())
    pd.testing.assert_frame_equal(again.good, good)


_NEW_YORK_CALENDAR = Calendar("XNYS")


def a_session_is_the_same_hours_of_new_york(day: date) -> None:
    """The grid of any day, DST or not: bars of at most an hour, in order, none before the open, none after the close, none twice."""
    grid = _NEW_YORK_CALENDAR.bar_grid(day, day + timedelta(days=1), phase_minutes=30)
    if grid.empty:
        return
    assert grid["bar_start"].is_monotonic_increasing
    assert grid["bar_start"].is_unique
    assert ((grid["bar_end"] - grid["bar_start"]) <= pd.Timedelta(hours=1)).all()
    assert (grid["bar_start"].iloc[1:].to_numpy() == grid["bar_end"].iloc[:-1].to_numpy()).all()
    opened = grid["bar_start"].iloc[0].tz_convert(NEW_YORK)
    closed = grid["bar_end"].iloc[-1].tz_convert(NEW_YORK)
    assert (opened.hour, opened.minute) == (9, 30)
    assert (closed.hour, closed.minute) in ((16, 0), (13, 0), (13, 15))
    assert opened.date() == day


PROPERTIES: dict[str, tuple[Callable[..., None], st.SearchStrategy[object]]] = {
    "bars": (quarantine_is_a_partition_of_the_rows, bars()),
    "sessions": (a_session_is_the_same_hours_of_new_york, st.dates(date(2005, 1, 3), date(2026, 12, 31))),
}


@contextmanager
def session() -> Iterator[Callable[[str], Outcome]]:
    yield check


SUITE = Suite(
    "property tests on bars, time zones, daylight saving", "50,000 examples",
    [f"{name} {number}" for number in range(25) for name in PROPERTIES], session,
)  # fmt: skip


def check(key: str, examples: int = EXAMPLES) -> Outcome:
    name, number = key.split(" ")
    holds, strategy = PROPERTIES[name]
    counted = 0

    @seed(int(number))
    @settings(max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def run(value: object) -> None:
        nonlocal counted
        counted += 1
        holds(value)

    try:
        run()
    except Exception as error:
        return Outcome([f"{type(error).__name__}: {error}"], {"examples": counted})
    return Outcome((), {"examples": counted})
