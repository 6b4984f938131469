"""The slice writer, on the embedded PostgreSQL and on the system's."""

import threading
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from tft_pipeline import contracts, schema
from tft_pipeline.errors import ContractError, StaleWriterError, StorageError
from tft_pipeline.storage import partitions, slices
from tft_pipeline.storage.ledger import slice_status
from tft_pipeline.storage.quarantine import Sought, listed
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import Claim, take_generation, write

from .frames import frame

DAYS = [date(2024, 1, 30), date(2024, 1, 31), date(2024, 2, 1), date(2024, 2, 2)]
BY = {"run_id": "run-1", "code_version": "1.0"}


def only(written):
    (result,) = written.values()
    return result


@pytest.mark.parametrize("table", contracts.TABLES, ids=lambda table: table.name)
def test_every_table_comes_back_as_it_was_written(any_database, table):
    rows = frame(table, DAYS, hours=(0,) if table.time == "day_start" else (0, 14, 23), tickers=("AAPL", "MSFT"))
    frames = {table: rows}
    if table is contracts.POSITIONS:  # must add up to the equity's
        marks = schema.validate(frame(contracts.EQUITY, DAYS, hours=(0, 14, 23)), contracts.EQUITY)
        frames[contracts.EQUITY] = marks.assign(positions_cents=2, equity_cents=lambda f: f["cash_cents"] + 2)
    written = write(any_database, frames, DAYS, **BY)[table.name]
    assert (written.table, written.days, written.rows, written.rows_written) == (table.name, 4, len(rows), len(rows))
    assert_frame_equal(read(any_database, table), schema.validate(rows, table))
    again = write(any_database, frames, DAYS, run_id="run-2", code_version="1.1")[table.name]
    assert (again.rows, again.rows_written, again.slices_changed) == (len(rows), 0, 0)
    assert again.content_hashes == written.content_hashes
    assert set(slice_status(any_database, table)["run_id"]) == {"run-1"}


def test_content_hashes_are_the_same_on_every_server(database, postgres15_template):
    from tft_pipeline.storage.database import Database

    rows = frame(contracts.DRIFT, DAYS, hours=(0,))
    rows["subject"] = ["b", "B", "a_", "a-"]  # a linguistic collation orders these otherwise than code points do
    rows["day_start"] = rows["day_start"].iloc[0]
    other = Database(postgres15_template())
    hashes = [only(write(each, {contracts.DRIFT: rows}, DAYS, **BY)).content_hashes for each in (database, other)]
    assert hashes[0] == hashes[1]
    assert [read(each, contracts.DRIFT)["subject"].tolist() for each in (database, other)] == [
        ["B", "a-", "a_", "b"]
    ] * 2


def test_only_rows_that_differ_are_written(any_database):
    rows = frame(contracts.FEATURES, DAYS, hours=range(10, 20))
    write(any_database, {contracts.FEATURES: rows}, DAYS, **BY)
    changed = rows.copy()
    changed.loc[3, "close"] += 1.0  # 30 January
    changed.loc[40:, "volume_change_1h"] = 0.5  # no such rows
    changed = changed.drop(index=[11, 12])  # 31 January
    extra = changed.iloc[[30]].assign(bar_start=lambda f: f["bar_start"] + pd.Timedelta(minutes=30))
    changed = pd.concat([changed, extra], ignore_index=True)  # 2 February
    written = only(write(any_database, {contracts.FEATURES: changed}, DAYS, run_id="run-2", code_version="1.0"))
    assert (written.rows, written.rows_written, written.slices_changed) == (39, 4, 3)
    assert_frame_equal(read(any_database, contracts.FEATURES), schema.validate(changed, contracts.FEATURES))
    status = slice_status(any_database, contracts.FEATURES)
    assert status["run_id"].tolist() == ["run-2", "run-2", "run-1", "run-2"]
    assert status["written_rows"].tolist() == [1, 2, 10, 1]


def test_bits_count_not_only_values(database):
    rows = frame(contracts.FEATURES, DAYS[:1])
    rows["return_1h"] = 0.0
    write(database, {contracts.FEATURES: rows}, DAYS[:1], **BY)
    negative = only(write(database, {contracts.FEATURES: rows.assign(return_1h=-0.0)}, DAYS[:1], **BY))
    assert negative.rows_written == 1
    assert np.signbit(read(database, contracts.FEATURES)["return_1h"]).all()


def test_a_day_without_rows_is_an_empty_slice_not_a_missing_one(any_database):
    write(any_database, {contracts.DECISIONS: frame(contracts.DECISIONS, DAYS[:2])}, DAYS, **BY)
    status = slice_status(any_database, contracts.DECISIONS)
    assert status["day"].tolist() == DAYS
    assert status["row_count"].tolist() == [1, 1, 0, 0]
    emptied = only(write(any_database, {contracts.DECISIONS: contracts.DECISIONS.empty()}, DAYS[1:], **BY))
    assert (emptied.rows, emptied.rows_written, emptied.slices_changed) == (0, 1, 1)
    assert len(read(any_database, contracts.DECISIONS)) == 1


def test_rows_that_somebody_removed_are_written_again(database):
    rows = frame(contracts.DECISIONS, DAYS)
    write(database, {contracts.DECISIONS: rows}, DAYS, **BY)
    with database.connect() as connection:
        connection.execute("DELETE FROM signals.decisions WHERE issued_at < '2024-01-31+00'")
    written = only(write(database, {contracts.DECISIONS: rows}, DAYS, **BY))
    assert (written.rows_written, written.slices_changed) == (1, 1)
    assert_frame_equal(read(database, contracts.DECISIONS), rows)


def test_rows_outside_the_days_are_refused_by_name(database):
    rows = frame(contracts.DECISIONS, DAYS)
    with pytest.raises(
        ContractError,
        match=r"signals.decisions: 1 row\(s\) lie outside .*2024-01-30 … 2024-02-01.*first at ticker=AAPL",
    ):
        write(database, {contracts.DECISIONS: rows}, DAYS[:3], **BY)
    assert slice_status(database, contracts.DECISIONS).empty


def test_text_that_postgres_cannot_hold_is_refused_by_name(database):
    for text in ("a\0b", "a\ud800b"):
        rows = frame(contracts.DECISIONS, DAYS).assign(reason=pd.Series([text] * 4, dtype=object))
        with pytest.raises(ContractError, match=r"signals.decisions: column 'reason'"):
            write(database, {contracts.DECISIONS: rows.astype({"reason": object})}, DAYS, **BY)


def test_json_may_be_text_or_mapping_but_no_nan_and_no_nul(database):
    rows = frame(contracts.MODELS, DAYS[:1])
    write(database, {contracts.MODELS: rows}, DAYS[:1], **BY)
    as_text = rows.assign(config=['{"name":"Zoë","losses":[0.5,0.25]}'])
    assert only(write(database, {contracts.MODELS: as_text}, DAYS[:1], **BY)).rows_written == 0
    for bad in ({"loss": float("nan")}, '{"loss": NaN}', {"text": "\0"}, "{", {1, 2}):
        with pytest.raises(ContractError, match=r"training.models: column 'config', row 0"):
            write(database, {contracts.MODELS: rows.assign(config=[bad])}, DAYS[:1], **BY)


def test_the_past_of_a_slice_and_how_far_it_reaches(database):
    rows = frame(contracts.DECISIONS, DAYS[:1])
    noon = datetime(2024, 1, 31, 12, tzinfo=UTC)
    write(database, {contracts.DECISIONS: rows}, DAYS[:2], reaches_to=noon, **BY)
    midnight = [datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)]
    assert slice_status(database, contracts.DECISIONS)["reaches_to"].tolist() == [midnight[0], noon]
    written = only(write(database, {contracts.DECISIONS: rows}, DAYS[:2], run_id="run-2", code_version="1.0"))
    assert written.rows_written == 0
    status = slice_status(database, contracts.DECISIONS)
    assert status["reaches_to"].tolist() == midnight
    assert set(status["run_id"]) == {"run-1"}


# Raw tables ------------------------------------------------------------------------------------------------------------


def at(hour, day=1, month=3):
    return pd.Timestamp(2024, month, day, hour, tz="UTC")


def test_a_corrected_bar_moves_the_old_version_aside(any_database):
    rows = frame(contracts.BARS, DAYS, hours=(14, 15))
    write(any_database, {contracts.BARS: rows}, DAYS, **BY)
    corrected = rows.copy()
    corrected.loc[0, "close"] = 10.5
    corrected.loc[0, "known_at"] = at(9)
    corrected.loc[1, "known_at"] = at(9)  # the same values, fetched again: nothing new
    written = only(write(any_database, {contracts.BARS: corrected}, DAYS, **BY))
    assert (written.rows, written.rows_written, written.rows_revised, written.slices_changed) == (8, 1, 1, 1)
    expected = rows.copy()
    expected.loc[0, ["close", "known_at"]] = [10.5, at(9)]
    assert_frame_equal(read(any_database, contracts.BARS), expected)
    with any_database.connect() as connection:
        kept = connection.execute(
            "SELECT close, known_at, replaced_at, typical_price FROM market.bars_revisions"
        ).fetchall()
    assert kept == [(11.0, rows.loc[0, "known_at"], at(9), pytest.approx((12 + 8 + 11) / 3))]
    again = only(write(any_database, {contracts.BARS: corrected}, DAYS, **BY))
    assert (again.rows_written, again.rows_revised, again.slices_changed) == (0, 0, 0)


def test_raw_rows_never_vanish_when_a_source_withdraws_them(any_database):
    rows = frame(contracts.POSTS, DAYS)
    first = only(write(any_database, {contracts.POSTS: rows}, DAYS, **BY))
    second = only(write(any_database, {contracts.POSTS: rows.iloc[:1]}, DAYS, **BY))
    assert (second.rows, second.rows_written, second.content_hashes) == (4, 0, first.content_hashes)
    later = only(write(any_database, {contracts.POSTS: contracts.POSTS.empty()}, DAYS, **BY))
    assert (later.rows, later.slices_changed) == (4, 0)
    assert len(read(any_database, contracts.POSTS)) == 4


def test_as_of_rebuilds_what_was_known_bit_for_bit(any_database):
    rows = frame(contracts.BARS, DAYS, hours=(14,))
    first_known = rows["known_at"].max()
    versions = [rows]
    write(any_database, {contracts.BARS: rows}, DAYS, **BY)
    for hour, close in ((9, 10.5), (12, 10.25)):
        corrected = rows.copy()
        corrected.loc[0, ["close", "known_at"]] = [close, at(hour)]
        write(any_database, {contracts.BARS: corrected}, DAYS, **BY)
        versions.append(corrected)
    assert_frame_equal(read(any_database, contracts.BARS, as_of=first_known), versions[0])
    assert_frame_equal(read(any_database, contracts.BARS, as_of=at(9) - pd.Timedelta(microseconds=1)), versions[0])
    assert_frame_equal(read(any_database, contracts.BARS, as_of=at(9)), versions[1])
    assert_frame_equal(read(any_database, contracts.BARS, as_of=at(12)), versions[2])
    early = read(any_database, contracts.BARS, as_of=rows["known_at"].iloc[1])
    assert_frame_equal(early, versions[0].iloc[:2])
    assert read(any_database, contracts.BARS, as_of=rows["known_at"].iloc[0] - pd.Timedelta(seconds=1)).empty


def test_a_correction_that_hides_its_date_does_not_change_the_past(database):
    # The same nominal known_at: as of any moment before the correction was written, the old value must show.
    rows = frame(contracts.BARS, DAYS)
    write(database, {contracts.BARS: rows}, DAYS, **BY)
    before = datetime.now(UTC)
    corrected = rows.assign(close=10.5)
    assert only(write(database, {contracts.BARS: corrected}, DAYS, **BY)).rows_revised == 4
    assert_frame_equal(read(database, contracts.BARS, as_of=before), rows)
    assert_frame_equal(read(database, contracts.BARS, as_of=datetime.now(UTC) + timedelta(minutes=1)), corrected)
    back = only(write(database, {contracts.BARS: rows}, DAYS, **BY))
    assert back.rows_revised == 4
    assert_frame_equal(read(database, contracts.BARS, as_of=before), rows)


# Quarantine ------------------------------------------------------------------------------------------------------------


def refused(*days):
    return pd.DataFrame(
        {
            "day": list(days),
            "ticker": ["AAPL"] * len(days),
            "reason": ["high < low"] * len(days),
            "row": ['{"high": 1, "low": 2}'] * len(days),
        }
    )


def test_refused_rows_are_kept_once_with_their_reason(any_database):
    rows = frame(contracts.BARS, DAYS)
    bad = pd.concat([refused(*DAYS), refused(DAYS[0]).assign(ticker=None, reason="no ticker")], ignore_index=True)
    assert only(write(any_database, {contracts.BARS: rows}, DAYS, quarantined=bad, **BY)).rows_quarantined == 5
    assert only(write(any_database, {contracts.BARS: rows}, DAYS, quarantined=bad, **BY)).rows_quarantined == 0
    kept = listed(any_database, Sought("market.bars"))
    assert len(kept) == 5
    assert kept["row"].iloc[0] == {"high": 1, "low": 2}
    assert kept["day"].iloc[0] == DAYS[-1]
    assert listed(any_database, Sought("market.actions")).empty
    assert len(listed(any_database, limit=2)) == 2


def test_single_rows_that_break_the_contract_go_to_quarantine_and_the_others_are_written(any_database):
    bars = frame(contracts.BARS, DAYS, hours=(14, 15))
    bars.loc[0, "close"] = np.nan
    bars.loc[1, "known_at"] = pd.NaT
    bars.loc[2, "volume"] = -1.0
    twice = pd.concat([bars, bars.iloc[[5]].assign(close=11.5)], ignore_index=True)
    written = only(write(any_database, {contracts.BARS: twice}, DAYS, **BY))
    assert (written.rows, written.rows_written, written.rows_quarantined) == (5, 5, 4)
    assert_frame_equal(read(any_database, contracts.BARS), bars.iloc[3:].reset_index(drop=True))
    kept = listed(any_database, Sought("market.bars")).set_index("reason")
    assert set(kept.index) == {
        "close is missing",
        "known_at is missing",
        "volume is below 0",
        "another row of the same key came before it",
    }
    assert set(kept["ticker"]) == {"AAPL"}
    assert kept.loc["volume is below 0", "row"]["volume"] == -1
    assert kept.loc["close is missing", "row"]["close"] == "NaN"
    again = only(write(any_database, {contracts.BARS: twice}, DAYS, **BY))
    assert (again.rows_written, again.rows_quarantined) == (0, 0)


def test_an_action_and_a_post_that_cannot_be_cost_nothing_but_themselves(database):
    actions = frame(contracts.ACTIONS, DAYS)
    actions.loc[0, "kind"] = "merger"
    actions.loc[1, "ticker"] = "../x"
    written = only(write(database, {contracts.ACTIONS: actions}, DAYS, **BY))
    assert (written.rows, written.rows_quarantined) == (2, 2)
    assert listed(database, Sought("market.actions"))["reason"].str.split().str[0].tolist() == ["ticker", "kind"]
    posts = frame(contracts.POSTS, DAYS).astype({"text": object})
    posts.loc[0, "text"] = None
    written = only(write(database, {contracts.POSTS: posts.astype({"text": "str"})}, DAYS, **BY))
    assert (written.rows, written.rows_quarantined) == (3, 1)


def test_a_derived_row_that_breaks_the_contract_on_its_way_to_the_stage_is_refused_there(database, monkeypatch):
    rows = frame(contracts.DECISIONS, DAYS)
    monkeypatch.setattr(slices, "_fit", schema.arranged)  # as if what was held against the contract had changed since
    with pytest.raises(
        ContractError, match=r"signals.decisions: confidence is above 1 in 2 row\(s\), first at ticker=AAPL"
    ):
        write(database, {contracts.DECISIONS: rows.assign(confidence=1.5)}, DAYS, **BY)
    assert read(database, contracts.DECISIONS).empty
    assert slice_status(database, contracts.DECISIONS).empty


def test_refused_rows_that_make_no_sense_are_refused_themselves(database):
    bars, rows = contracts.BARS, frame(contracts.BARS, DAYS)
    for bad, message in (
        (refused(DAYS[0]).drop(columns="row"), "need the columns"),
        (refused(date(2020, 1, 1)), "lie on 2020-01-01, which is not written"),
        (refused(DAYS[0]).assign(row="{"), "no JSON text"),
    ):
        with pytest.raises(ContractError, match=message):
            write(database, {bars: rows}, DAYS, quarantined=bad, **BY)
    with pytest.raises(ContractError, match=r"belong to one table"):
        write(
            database,
            {bars: rows, contracts.ACTIONS: frame(contracts.ACTIONS, DAYS)},
            DAYS,
            quarantined=refused(DAYS[0]),
            **BY,
        )
    assert slice_status(database, bars).empty


# Several writers -------------------------------------------------------------------------------------------------------


def test_a_writer_whose_successor_has_begun_is_refused(any_database):
    table, rows = contracts.DECISIONS, frame(contracts.DECISIONS, DAYS)
    orphan = take_generation(any_database, [table], DAYS)
    successor = take_generation(any_database, [table], DAYS[1:2])
    with pytest.raises(
        StaleWriterError,
        match=rf"signals.decisions: a later writer \(generation {successor}\).*2024-01-31.*\({orphan}\)",
    ):
        write(any_database, {table: rows}, DAYS, generation=orphan, **BY)
    assert slice_status(any_database, table).empty
    write(any_database, {table: rows.iloc[1:2]}, DAYS[1:2], generation=successor, **BY)
    write(any_database, {table: rows.iloc[:1]}, DAYS[:1], generation=orphan, **BY)  # nobody took this day over
    assert len(read(any_database, table)) == 2


def test_a_writer_that_needs_more_days_keeps_its_place(any_database):
    table, rows = contracts.DECISIONS, frame(contracts.DECISIONS, DAYS)
    first = take_generation(any_database, [table], DAYS[:1])
    more = take_generation(any_database, [table], DAYS, holding=Claim(first, DAYS[:1]))
    assert more > first
    write(any_database, {table: rows}, DAYS, generation=more, **BY)


def test_a_writer_that_has_a_successor_cannot_overtake_it_by_claiming_again(any_database):
    table, rows = contracts.DECISIONS, frame(contracts.DECISIONS, DAYS)
    orphan = take_generation(any_database, [table], DAYS[:2])
    successor = take_generation(any_database, [table], DAYS[1:2])
    with pytest.raises(StaleWriterError, match=rf"a later writer \(generation {successor}\).*2024-01-31"):
        take_generation(any_database, [table], DAYS, holding=Claim(orphan, DAYS[:2]))
    write(any_database, {table: rows.iloc[1:2]}, DAYS[1:2], generation=successor, **BY)


def test_of_two_that_claim_more_days_at_once_the_one_that_lost_its_claim_is_refused(any_database):
    table = contracts.DECISIONS
    orphan = take_generation(any_database, [table], DAYS)
    outcomes = race(
        8,
        lambda n: (
            take_generation(any_database, [table], DAYS, holding=Claim(orphan, DAYS))
            if n
            else take_generation(any_database, [table], DAYS)
        ),
    )
    assert all(o is None or isinstance(o, StaleWriterError) for o in outcomes)
    assert outcomes[0] is None
    assert sum(o is None for o in outcomes[1:]) <= 1


def test_eight_threads_on_one_slice_leave_the_whole_of_one(any_database):
    table = contracts.FEATURES
    tickers = [f"T{i}" for i in range(40)]
    versions = [frame(table, DAYS, tickers=tickers).assign(close=float(n + 1)) for n in range(8)]
    versions = [version.sample(frac=1.0, random_state=n) for n, version in enumerate(versions)]
    outcomes = race(8, lambda n: only(write(any_database, {table: versions[n]}, DAYS, **BY)))
    assert all(o is None or isinstance(o, StaleWriterError) for o in outcomes)
    assert None in outcomes
    held = read(any_database, table)
    assert len(held) == 160
    assert (held.groupby(held["bar_start"].dt.month)["close"].nunique() == 1).all()
    assert not only(write(any_database, {table: held}, DAYS, **BY)).rows_written


def test_eight_threads_that_bring_the_same_raw_rows_bring_them_once(any_database):
    rows = frame(contracts.BARS, DAYS, tickers=[f"T{i}" for i in range(40)])
    generation = take_generation(any_database, [contracts.BARS], DAYS)
    outcomes = race(8, lambda _: write(any_database, {contracts.BARS: rows}, DAYS, generation=generation, **BY))
    assert outcomes == [None] * 8
    assert len(read(any_database, contracts.BARS)) == 160
    with any_database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM market.bars_revisions").fetchone() == (0,)


def test_partitions_may_be_asked_for_by_eight_at_once(any_database):
    days = [date(2020, month, 5) for month in range(1, 13)]
    made = []
    outcomes = race(8, lambda _: made.extend(partitions.ensure(any_database, ["market.bars", "ops.quarantine"], days)))
    assert outcomes == [None] * 8
    assert sorted(made) == sorted(
        f"{name}_2020_{month:02d}" for name in ("market.bars", "ops.quarantine") for month in range(1, 13)
    )
    with any_database.connect() as connection:
        connection.execute("SET timezone = 'Asia/Tokyo'")
        bounds = connection.execute(
            "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = 'market.bars_2020_12'::regclass"
        ).fetchone()[0]
    assert bounds == "FOR VALUES FROM ('2020-12-01 09:00:00+09') TO ('2021-01-01 09:00:00+09')"


def test_what_is_not_partitioned_gets_no_partitions(database):
    with pytest.raises(ValueError, match=r"ops.slices is not partitioned"):
        partitions.ensure(database, ["ops.slices"], DAYS)


def race(n, act):
    """act(0) … act(n - 1) in threads that start together; what each raised, or None."""
    barrier, outcomes = threading.Barrier(n), [None] * n

    def run(number):
        barrier.wait()
        try:
            act(number)
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


# One transaction -------------------------------------------------------------------------------------------------------


def test_a_failure_between_tables_leaves_nothing_of_the_month(any_database):
    with any_database.connect() as connection:
        connection.execute("ALTER TABLE monitoring.drift ADD CONSTRAINT never CHECK (day_start < '2024-02-01+00')")
    frames = {
        contracts.DECISIONS: frame(contracts.DECISIONS, DAYS),
        contracts.DRIFT: frame(contracts.DRIFT, DAYS, hours=(0,)),
    }
    with pytest.raises(StorageError, match=r"violates check constraint"):
        write(any_database, frames, DAYS, **BY)
    for (
        table
    ) in frames:  # January was whole and stays; of February there is nothing, not even in the table that was first
        assert read(any_database, table)[table.time].dt.month.tolist() == [1, 1]
        assert slice_status(any_database, table)["day"].tolist() == DAYS[:2]


def test_a_writer_that_waits_too_long_says_so(database, monkeypatch):
    monkeypatch.setattr("tft_pipeline.storage.slices._LOCK_SECONDS", 0.2)
    with database.connect() as connection:
        connection.execute("LOCK TABLE ops.slices IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StorageError, match=r"lock timeout.*Another writer holds the lock"):
            write(database, {contracts.DECISIONS: frame(contracts.DECISIONS, DAYS)}, DAYS, **BY)
