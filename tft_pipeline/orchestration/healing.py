"""Which days the next refresh has to do, and which have to wait: read from the ledger and from the runs so far, not from what ticked
(FAULTS 12). Pure.

Oldest first, in pieces: a crash loses one piece's work, and whoever opens an empty installation of five years does not wait for one run.
A piece that fails is cut in four until the day that fails stands alone; that one waits longer each time, while younger days go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

# A quarter is a minute or two of events and a few of work, far below run monitoring's two hours (dagster.yaml), on any source.
MOST_DAYS = 92
_CUT = 4
MOST_TRIES = 8  # of a day by itself: with the waits below, most of a day
_FIRST_WAIT, _LONGEST_WAIT = timedelta(minutes=10), timedelta(hours=6)
_FRUITLESS_WAIT = timedelta(hours=1)  # after a run that succeeded, but could not have all that it asked for
_LONGEST_PAUSE = timedelta(hours=1)
_SLACK = timedelta(minutes=1)  # a tick comes some seconds early or late


@dataclass(frozen=True)
class Try:
    """A refresh that ended. through: the day up to which later days have to be done again, because they build on these."""

    first: date
    last: date
    through: date
    asked_at: datetime
    failed: bool

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    def covers(self, day: date) -> bool:
        return self.first <= day <= self.last


@dataclass(frozen=True)
class Step:
    """days: first and last to refresh now; None: nothing, for the reason. through: see Try. given_up: days that are tried no more."""

    days: tuple[date, date] | None
    reason: str
    through: date | None = None
    given_up: Sequence[date] = ()


@dataclass(frozen=True)
class Restated:
    """A complete day of which a source says otherwise now. since: when that was first noted, settled by now or not; noted_at: the newest
    note that is not settled."""

    day: date
    since: datetime
    noted_at: datetime


@dataclass(frozen=True)
class _Standing:
    """What a day's tries so far allow."""

    allowed: int  # days of a run that holds it
    blamed: int  # tries that say something about this very day
    fails: bool  # by itself, the last time
    until: datetime | None  # not before
    given_up: bool


@dataclass(frozen=True)
class _Owed:
    """Days that were complete when an earlier one was healed: what they hold was made without it."""

    first: date
    through: date
    since: datetime


def next_step(
    stale: Sequence[date],
    tries: Sequence[Try],
    *,
    last: date,
    due: datetime,
    delay: timedelta,
    now: datetime,
    restated: Sequence[Restated] = (),
) -> Step:
    """What to refresh now.

    stale: days that the ledger says are missing or incomplete (storage.staleness). tries: of this version of the code, by asked_at.
    last: the newest day there is. due: up to where slices have to reach. delay: of the source of bars, see BarSource. restated: complete
    days to ask for again (storage.restatements), once nothing else is to be done: each by itself or with its neighbours among them, and no
    day after them, for what is learned now changes no day before now (see `restating`).
    A failed run counts against a day only when it held nothing else, and a day is given up only once others have succeeded since:
    an outage fails everyone, and says nothing about a day.
    """
    step = _of_what_lacks(stale, tries, last=last, due=due, delay=delay, now=now)
    behind = set(stale)
    if step.days is not None or not any(one.day not in behind for one in restated):
        return step
    again = _of_what_was_restated([one for one in restated if one.day not in behind], behind, tries, now)
    reason = "; ".join(part for part in (step.reason, again.reason) if part) if again.days is None else again.reason
    return replace(again, reason=reason, given_up=sorted({*step.given_up, *again.given_up}))


def _of_what_lacks(
    stale: Sequence[date], tries: Sequence[Try], *, last: date, due: datetime, delay: timedelta, now: datetime
) -> Step:
    """What to refresh of what is missing, incomplete, or made before an earlier day was healed."""
    behind = set(stale)
    owed = _owed(tries, behind, last)
    wanted = sorted(behind | set(_range(owed.first, owed.through) if owed else ()))
    if not wanted:
        return Step(None, "")
    standing = {
        day: _standing(day, tries, behind, _ready(day, due, delay) if day in behind or owed is None else owed.since)
        for day in wanted
    }
    given_up = [day for day, of_day in standing.items() if of_day.given_up]
    pause = _pause(tries)
    if pause is not None and now < pause:
        return Step(
            None, f"the newest refresh failed; the next is asked for at {_shown(pause)}, or as soon as one succeeds", given_up=given_up
        )  # fmt: skip
    blocked = {day for day, of_day in standing.items() if of_day.given_up or (of_day.until and now < of_day.until)}
    open_days = [day for day in wanted if day not in blocked]
    if not open_days:
        return Step(None, _why_not(standing, given_up), given_up=given_up)
    # A day that fails makes no younger one wait, and what is missing comes before what is to be done again.
    first = min(open_days, key=lambda day: (day not in behind, standing[day].fails, day))
    # Whatever is younger than a day that is healed builds on it, complete or not; what is to be done again ends where that ended.
    through = last if first in behind or owed is None else owed.through
    end, most = first, standing[first].allowed
    while end < through:
        following = end + timedelta(days=1)
        of_day = standing.get(following, _Standing(MOST_DAYS, 0, fails=False, until=None, given_up=False))
        most = min(most, of_day.allowed)
        if following in blocked or of_day.fails or (end - first).days + 2 > most:
            break
        end = following
    doing = (
        f"{first} is missing or incomplete" if first in behind else f"{first} was made before an earlier day was healed"
    )
    reason = f"{doing}; {len(behind)} days are behind" if len(behind) > 1 else doing
    return Step((first, end), reason, through=through, given_up=given_up)


def _of_what_was_restated(restated: Sequence[Restated], behind: set[date], tries: Sequence[Try], now: datetime) -> Step:
    """The oldest days that were restated and need not wait.

    Waits count from the first note of a day: a source that changes a day time and again, or to and fro, is asked ever more seldom, until
    the day is too old to be looked at. It is given up only where as many runs left one and the same note open.
    """
    standing = {
        one.day: replace(
            _standing(one.day, tries, behind, one.since),
            given_up=_standing(one.day, tries, behind, one.noted_at).given_up,
        )
        for one in restated
    }
    given_up = [day for day, of_day in standing.items() if of_day.given_up]
    pause = _pause(tries)
    if pause is not None and now < pause:
        return Step(
            None, f"the newest refresh failed; restated days are asked for after {_shown(pause)}", given_up=given_up
        )
    open_days = [
        day for day, of_day in standing.items() if not of_day.given_up and not (of_day.until and now < of_day.until)
    ]
    if not open_days:
        return Step(None, _why_not(standing, given_up, "was restated again"), given_up=given_up)
    first = min(open_days, key=lambda day: (standing[day].fails, day))
    end, most = first, standing[first].allowed
    while (following := end + timedelta(days=1)) in open_days and not standing[following].fails:
        most = min(most, standing[following].allowed)
        if (following - first).days + 1 > most:
            break
        end = following
    more = f"; {len(restated)} days were" if len(restated) > 1 else ""
    return Step((first, end), f"{first} was restated by its source{more}", through=end, given_up=given_up)


def _standing(day: date, tries: Sequence[Try], behind: set[date], since: datetime) -> _Standing:
    relevant = [one for one in tries if one.covers(day) and one.asked_at >= since]
    failed = [one.days for one in relevant if one.failed]
    # A run that succeeded and left the day behind has done all others: it need not be cut to find out which.
    blamed = [one for one in relevant if not one.failed or one.days == 1]
    until, given_up = None, False
    if blamed:
        first_wait = _FIRST_WAIT if blamed[-1].failed else _FRUITLESS_WAIT
        until = blamed[-1].asked_at + _doubled(first_wait, len(blamed), _LONGEST_WAIT)
        # While a source has an answer for no day, or is silent about a ticker, no run elsewhere is whole either.
        others = [one for one in tries if not one.failed and one.asked_at >= blamed[0].asked_at and not one.covers(day)]
        whole = [one for one in others if not any(one.covers(other) for other in behind)]
        given_up = len(blamed) >= MOST_TRIES and bool(others if blamed[-1].failed else whole)
    allowed = max(1, min(failed) // _CUT) if failed else MOST_DAYS
    return _Standing(allowed, len(blamed), bool(blamed) and blamed[-1].failed, until, given_up)


def _pause(tries: Sequence[Try]) -> datetime | None:
    """When to go on after runs that failed one after the other, whatever their days."""
    failures = 0
    for one in reversed(tries):
        if not one.failed:
            break
        failures += 1
    return tries[-1].asked_at + _doubled(_FIRST_WAIT, failures, _LONGEST_PAUSE) if failures else None


def _owed(tries: Sequence[Try], behind: set[date], last: date) -> _Owed | None:
    """What is still to be done again after successful runs over earlier days; a run that left a day behind has healed nothing."""
    owed: _Owed | None = None
    for one in tries:
        if one.failed:
            continue
        if owed is not None and one.covers(owed.first):
            owed = _Owed(one.last + timedelta(days=1), owed.through, owed.since)
        healed = not any(one.covers(day) for day in behind)
        if one.through > one.last and healed:
            following = one.last + timedelta(days=1)
            owed = _Owed(
                min(owed.first, following) if owed else following,
                max(owed.through, one.through) if owed else one.through,
                one.asked_at,
            )
        if owed is not None and owed.first > owed.through:
            owed = None
    return owed if owed is None or owed.through <= last else _Owed(owed.first, last, owed.since)


def _ready(day: date, due: datetime, delay: timedelta) -> datetime:
    """From when on a run could have completed the day as far as it is due."""
    return min(datetime.combine(day + timedelta(days=1), time(), tzinfo=UTC), due) + delay


def _doubled(first: timedelta, times: int, longest: timedelta) -> timedelta:
    return min(first * (1 << min(times - 1, 16)), longest) - _SLACK


def _why_not(standing: dict[date, _Standing], given_up: Sequence[date], still: str = "is still incomplete") -> str:
    parts = [given_up_sentence(given_up)] if given_up else []
    waiting = {day: of_day.until for day, of_day in standing.items() if of_day.until and not of_day.given_up}
    if waiting:
        day = min(waiting, key=lambda day: (waiting[day], day))
        more = f" ({len(waiting)} days wait)" if len(waiting) > 1 else ""
        runs = f"{standing[day].blamed} run" + ("s" if standing[day].blamed > 1 else "")
        parts.append(f"{day} {still} after {runs} and is tried again at {_shown(waiting[day])}{more}")
    return "; ".join(parts)


def given_up_sentence(days: Sequence[date]) -> str:
    """Which days are tried no more, and what a person does about it."""
    more = f" and {len(days) - 5} more" if len(days) > 5 else ""
    return (
        f"{', '.join(map(str, days[:5]))}{more}: given up after {MOST_TRIES} runs of this version that left it incomplete; mend what the last "
        f"one says, then run `tft-pipeline backfill --from {days[0]} --to {days[-1]}`"
    )


def _range(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _shown(moment: datetime | None) -> str:
    return f"{moment + _SLACK:%Y-%m-%d %H:%M} UTC" if moment else "once"
