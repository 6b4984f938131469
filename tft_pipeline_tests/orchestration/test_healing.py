"""Which days a refresh takes and which have to wait: from what the ledger lacks and how earlier runs ended, worked out by hand."""

from datetime import UTC, date, datetime, timedelta

import pytest

from tft_pipeline.orchestration import healing
from tft_pipeline.orchestration.healing import MOST_DAYS, Restated, Step, Try, next_step

NOW = datetime(2026, 1, 8, 15, 3, tzinfo=UTC)
TODAY = date(2026, 1, 8)


def day(number: int) -> date:
    return date(2026, 1, number)


def at(number: int, hour: int, minute: int = 3) -> datetime:
    return datetime(2026, 1, number, hour, minute, tzinfo=UTC)


def ended(first: date, last: date, asked_at: datetime, *, failed: bool = False, through: date | None = None) -> Try:
    return Try(first, last, through or last, asked_at, failed)


def step(*stale: date, tries: tuple[Try, ...] = (), now: datetime = NOW, delay: timedelta = timedelta(0)) -> Step:
    due = (now - delay).replace(minute=0)
    return next_step(stale, tries, last=now.date(), due=due, delay=delay, now=now)


def test_nothing_is_done_when_nothing_is_behind() -> None:
    assert step() == Step(None, "")


def test_today_alone_is_taken_an_hour_later() -> None:
    found = step(TODAY)
    assert (found.days, found.through) == ((TODAY, TODAY), TODAY)
    assert found.reason == "2026-01-08 is missing or incomplete"


def test_after_downtime_one_run_goes_from_the_oldest_day_to_today() -> None:
    found = step(day(6), day(7), TODAY)
    assert found.days == (day(6), TODAY)
    assert found.reason == "2026-01-06 is missing or incomplete; 3 days are behind"


def test_a_long_gap_is_healed_in_pieces_oldest_first() -> None:
    missing = [TODAY - timedelta(days=back) for back in range(199, -1, -1)]  # 2025-06-23 … 2026-01-08
    found = step(*missing)
    assert found.days == (date(2025, 6, 23), date(2025, 9, 22))  # 8 + 31 + 31 + 22 days
    assert (found.days[1] - found.days[0]).days + 1 == MOST_DAYS == 92
    first = ended(*found.days, NOW, through=TODAY)
    again = step(*missing[92:], tries=(first,))
    assert again.days == (date(2025, 9, 23), date(2025, 12, 23))


def test_younger_days_are_done_again_when_a_gap_in_the_middle_is_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healing, "MOST_DAYS", 3)
    found = step(day(2))  # 3 … 8 are complete, and were made without it
    assert (found.days, found.through) == ((day(2), day(4)), TODAY)
    healed = ended(day(2), day(4), NOW, through=TODAY)
    found = step(tries=(healed,))
    assert (found.days, found.through) == ((day(5), day(7)), TODAY)
    assert found.reason == "2026-01-05 was made before an earlier day was healed"
    more = ended(day(5), day(7), NOW, through=TODAY)
    assert step(tries=(healed, more)).days == (TODAY, TODAY)
    assert step(tries=(healed, more, ended(TODAY, TODAY, NOW))).days is None


def test_what_is_missing_comes_before_what_is_to_be_done_again() -> None:
    healed = ended(day(2), day(4), at(8, 14), through=day(7))
    assert step(TODAY, tries=(healed,)).days == (TODAY, TODAY)


def test_a_run_that_left_a_day_behind_has_healed_nothing() -> None:
    fruitless = ended(day(2), day(2), at(8, 15, 3), through=TODAY)
    assert step(day(2), tries=(fruitless,)).days is None


def test_a_failed_run_is_tried_again_within_the_hour_and_each_further_one_later() -> None:
    failures = [ended(TODAY, TODAY, at(8, 15, 3), failed=True)]
    assert step(TODAY, tries=tuple(failures), now=at(8, 15, 3)).days is None
    assert step(TODAY, tries=tuple(failures), now=at(8, 15, 13)).days == (TODAY, TODAY)
    failures.append(ended(TODAY, TODAY, at(8, 15, 13), failed=True))
    waits = step(TODAY, tries=tuple(failures), now=at(8, 15, 23))
    assert waits.reason == (
        "the newest refresh failed; the next is asked for at 2026-01-08 15:33 UTC, or as soon as one succeeds"
    )
    assert step(TODAY, tries=tuple(failures), now=at(8, 15, 33)).days == (TODAY, TODAY)


def test_a_tick_that_comes_some_seconds_early_is_no_tick_too_early() -> None:
    failed = ended(TODAY, TODAY, at(8, 15, 3) + timedelta(seconds=5), failed=True)
    assert step(TODAY, tries=(failed,), now=at(8, 15, 13)).days == (TODAY, TODAY)


def test_a_failed_piece_is_cut_until_the_day_that_fails_stands_alone() -> None:
    missing = [day(n) for n in range(1, 9)]
    whole = ended(day(1), TODAY, at(8, 15, 3), failed=True)
    assert step(*missing, tries=(whole,), now=at(8, 15, 13)).days == (day(1), day(2))  # 8 / 4
    quarter = ended(day(1), day(2), at(8, 15, 13), failed=True)
    assert step(*missing, tries=(whole, quarter), now=at(8, 15, 33)).days == (day(1), day(1))


def test_younger_days_go_on_while_the_one_that_fails_waits() -> None:
    alone = ended(day(5), day(5), at(8, 15, 3), failed=True)
    found = step(day(5), day(6), day(7), TODAY, tries=(alone,), now=at(8, 16, 3))
    assert found.days == (day(6), TODAY)
    done = ended(day(6), TODAY, at(8, 16, 3))
    assert step(day(5), tries=(alone, done), now=at(8, 16, 13)).days == (day(5), day(5))


def failing(number: int, times: int) -> list[Try]:
    """So many runs of one day alone, each of which failed, a while apart."""
    return [ended(day(number), day(number), at(7, 0) + timedelta(hours=n), failed=True) for n in range(times)]


def test_a_day_that_always_fails_is_given_up_and_named() -> None:
    other = ended(day(6), TODAY, at(8, 14))
    seven = step(day(5), tries=(*failing(5, 7), other))
    assert seven.days == (day(5), day(5))
    found = step(day(5), tries=(*failing(5, 8), other))
    assert found.days is None
    assert list(found.given_up) == [day(5)]
    assert found.reason == (
        "2026-01-05: given up after 8 runs of this version that left it incomplete; mend what the last one says, then run "
        "`tft-pipeline backfill --from 2026-01-05 --to 2026-01-05`"
    )
    assert step(day(5), TODAY, tries=(*failing(5, 8), other)).days == (TODAY, TODAY)
    assert step(day(5), tries=(other,)).days == (day(5), TODAY)  # another version of the code has no tries yet


def test_an_outage_gives_no_day_up() -> None:
    failures = tuple(failing(5, 20))
    found = step(day(5), tries=failures)
    assert found.days == (day(5), day(5))
    assert not found.given_up


def test_a_day_whose_source_was_silent_is_asked_for_again_after_an_hour_then_two() -> None:
    once = ended(day(7), TODAY, at(8, 0))  # it succeeded, and the 7th is still behind
    assert step(day(7), tries=(once,), now=at(8, 0, 53)).reason == (
        "2026-01-07 is still incomplete after 1 run and is tried again at 2026-01-08 01:03 UTC"
    )
    assert step(day(7), tries=(once,), now=at(8, 1)).days == (day(7), TODAY)
    twice = ended(day(7), TODAY, at(8, 1))
    assert step(day(7), tries=(once, twice), now=at(8, 2)).days is None
    assert step(day(7), tries=(once, twice), now=at(8, 3)).days is not None


def test_a_day_whose_source_was_silent_is_healed_before_today_and_with_it() -> None:
    silent = ended(day(7), TODAY, at(8, 14))
    assert step(day(7), TODAY, tries=(silent,)).days == (day(7), TODAY)


def test_what_failed_before_the_day_was_over_does_not_count_against_it() -> None:
    during = [ended(day(7), day(7), at(7, hour), failed=True) for hour in range(1, 24)]
    after = ended(day(7), TODAY, at(8, 0))
    assert step(TODAY, tries=(*during, after)).days == (TODAY, TODAY)
    assert step(day(7), TODAY, tries=(*during, ended(day(6), day(6), at(8, 0)))).days == (day(7), TODAY)


def test_a_slow_source_is_not_asked_before_it_can_answer() -> None:
    fifteen = timedelta(minutes=15)
    early = ended(TODAY, TODAY, at(8, 15, 3))  # up to 14:48, and 15:00 is due
    found = step(TODAY, tries=(early,), now=at(8, 15, 23), delay=fifteen)
    assert found.days == (TODAY, TODAY)


# What a source restated -----------------------------------------------------------------------------------------------


def restated(number: int, *, since: datetime | None = None, noted_at: datetime | None = None) -> Restated:
    since = since or at(8, 10)
    return Restated(day(number), since, noted_at or since)


def again(*days: Restated, stale: tuple[date, ...] = (), tries: tuple[Try, ...] = (), now: datetime = NOW) -> Step:
    due = now.replace(minute=0)
    return next_step(stale, tries, last=now.date(), due=due, delay=timedelta(0), now=now, restated=days)


def test_a_restated_day_is_asked_for_alone_and_nothing_after_it() -> None:
    found = again(restated(6))
    assert (found.days, found.through) == ((day(6), day(6)), day(6))
    assert found.reason == "2026-01-06 was restated by its source"
    done = Try(day(6), day(6), day(6), at(8, 15), failed=False)
    assert step(tries=(done,)).days is None  # nothing is owed


def test_neighbours_that_were_restated_share_a_run_and_others_do_not() -> None:
    found = again(restated(2), restated(5), restated(6))
    assert found.days == (day(2), day(2))
    assert found.reason == "2026-01-02 was restated by its source; 3 days were"
    found = again(restated(5), restated(6))
    assert (found.days, found.through) == ((day(5), day(6)), day(6))


def test_what_is_missing_comes_before_what_was_restated() -> None:
    assert again(restated(6), stale=(TODAY,)).days == (TODAY, TODAY)
    assert again(restated(6), stale=(day(5),)).days == (day(5), TODAY)  # and takes it along
    assert again(restated(6), stale=(day(6),)).days == (day(6), TODAY)


def test_a_missing_day_that_waits_holds_up_no_restated_one() -> None:
    silent = ended(day(7), TODAY, at(8, 15, 3))
    assert step(day(7), tries=(silent,), now=at(8, 15, 13)).days is None
    assert again(restated(6), stale=(day(7),), tries=(silent,), now=at(8, 15, 13)).days == (day(6), day(6))


def test_a_day_restated_time_and_again_waits_one_hour_two_four_and_then_six() -> None:
    tries: list[Try] = []
    asked: list[float] = []
    begin, now = at(8, 0), at(8, 0)
    while now < begin + timedelta(hours=48):
        found = again(restated(6, since=begin, noted_at=now), tries=tuple(tries), now=now)
        if found.days is not None:
            tries.append(ended(day(6), day(6), now))
            asked.append((now - begin) / timedelta(hours=1))
        now += timedelta(minutes=10)
    assert asked == [0, 1, 3, 7, 13, 19, 25, 31, 37, 43]


def test_a_restated_day_that_waits_says_until_when() -> None:
    done = ended(day(6), day(6), at(8, 15, 3))
    assert again(restated(6), tries=(done,), now=at(8, 15, 13)).reason == (
        "2026-01-06 was restated again after 1 run and is tried again at 2026-01-08 16:03 UTC"
    )


def test_a_restated_day_that_cannot_be_read_is_given_up_and_named() -> None:
    tries = [ended(day(6), day(6), at(6, 0) + timedelta(hours=6 * n)) for n in range(8)]
    whole = ended(TODAY, TODAY, at(8, 14))
    found = again(restated(6, since=at(5, 0)), tries=(*tries, whole))
    assert found.days is None
    assert list(found.given_up) == [day(6)]
    fresh = again(restated(6, since=at(5, 0), noted_at=at(7, 10)), tries=(*tries, whole), now=at(9, 10))
    assert fresh.days == (day(6), day(6))  # it was settled since, and noted anew


def test_after_a_failed_run_restated_days_wait_too() -> None:
    failed = ended(TODAY, TODAY, at(8, 15, 3), failed=True)
    assert again(restated(6), tries=(failed,), now=at(8, 15, 3)).reason == (
        "the newest refresh failed; restated days are asked for after 2026-01-08 15:13 UTC"
    )
