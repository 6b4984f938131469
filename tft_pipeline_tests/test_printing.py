"""What a person reads, for reports that the demo of a small world does not happen to make."""

from typing import Any

import pytest

from tft_pipeline.printing import show

SILENT: dict[str, Any] = {
    "simulated": False, "market": "files:/bars", "posts": "none",
    "history": {"from": "2026-01-01", "to": "2026-05-01", "trained_as_of": "2026-04-01"},
    "rows": {"market.bars": 1234}, "rows_written": {}, "forecast": {"n": 0}, "decisions": [], "portfolio": {},
    "seconds": {"total": 12.3}, "peak_memory_bytes": 2**30,
}  # fmt: skip


def printed(capsys: pytest.CaptureFixture[str], kind: str, report: dict[str, Any]) -> str:
    show(kind, report)
    return " ".join(capsys.readouterr().out.split())


def test_a_demo_without_matured_forecasts_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "demo", SILENT)
    assert "files:/bars, posts none" in text
    assert "No forecast has matured yet." in text
    assert "1,234 │ 0" in text
    assert "12 s in all" in text
    assert "1,024 MiB" in text
    assert "Portfolio" not in text
    assert "SIMULATED" not in text


@pytest.mark.parametrize(
    ("skill", "verdict"), [(0.02, "better than"), (0.0, "no better than"), (-0.01, "no better than")]
)
def test_no_skill_is_called_no_skill(capsys: pytest.CaptureFixture[str], skill: float, verdict: str) -> None:
    forecast = {"n": 5, "skill": skill, "pinball": 0.98, "baseline_pinball": 1.0, "coverage_80": 0.5}
    text = printed(capsys, "demo", {**SILENT, "forecast": forecast})
    assert f"Forecast skill {skill:+.2%}: {verdict} the naive baseline" in text
    assert "The 80 % band covered 50.0%." in text


def test_a_forecast_shows_its_quantiles_in_percent_and_its_reason_once(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [{"horizon_hours": hours, "p10": -0.011, "p50": 0.002, "p90": 0.0125} for hours in (1, 2)]
    row = {
        "ticker": "AAPL",
        "issued_at": "2026-05-01T20:00Z",
        "quantiles": steps,
        "action": "HOLD",
        "reason": "no edge",
    }
    text = printed(capsys, "forecast", {"simulated": True, "forecasts": [row]})
    assert "SIMULATED market" in text
    assert "-1.10%" in text
    assert "+1.25%" in text
    assert text.count("HOLD") == 1


def test_the_doctor_marks_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [
        {"subject": "disk", "well": True, "sentence": "9 GiB free"}, {"subject": "postgres", "well": False, "sentence": "no server; start it"},
    ]  # fmt: skip
    text = printed(capsys, "doctor", {"findings": findings, "healthy": False})
    assert "✓ disk 9 GiB free" in text
    assert "✗ postgres no server; start it" in text
    assert "not all is well" in text


def test_a_run_lists_the_tables_it_changed_or_says_none(capsys: pytest.CaptureFixture[str]) -> None:
    report = {"job": "refresh", "from": "2026-01-01", "to": "2026-01-02", "run_id": "abc"}
    text = printed(capsys, "run", {**report, "rows_written": {"market.bars": 1200, "market.quality": 0}})
    assert "refresh from 2026-01-01 to 2026-01-02: run abc" in text
    assert "rows written: market.bars 1,200" in text
    assert "quality" not in text
    assert "none, all was there already" in printed(capsys, "run", {**report, "rows_written": {"market.bars": 0}})


SAME = {"issued": "a" * 64, "rebuilt": "a" * 64, "equal": True}
REPLAY: dict[str, Any] = {
    "equal": True, "simulated": True, "as_of": "2016-01-04T15:00:00+00:00", "issued_at": "2016-01-04T15:00:00+00:00",
    "issues": [{"model_id": "tft-1", "equal": True, "code_version": {"issued": "0.1", "rebuilt": "0.2"}, "features": SAME, "forecast": SAME}],
    "arrived_since": {"market.bars": 1, "sentiment.posts": 0}, "damaged": [],
}  # fmt: skip


def test_a_replay_that_meets_its_hashes_says_equal_and_what_came_since(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "replay", REPLAY)
    assert "SIMULATED market" in text
    assert "Issued at 2016-01-04T15:00:00+00:00" in text
    assert text.count("equal") == 3
    assert "Came or was corrected since, about the time before: market.bars 1." in text
    assert "different" not in text
    assert "0.2" not in text


def test_a_replay_that_does_not_names_what_differs_first(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"table": "features.hourly", "ticker": "AAPL", "column": "close", "issued": 1.5, "rebuilt": 1.25}
    row = {"table": "forecasts.quantiles", "ticker": "AAPL", "column": None, "issued": "a row", "rebuilt": "no row"}
    other = {"issued": "a" * 64, "rebuilt": "b" * 64, "equal": False}
    issue = {
        **REPLAY["issues"][0], "equal": False, "features": {**other, "difference": value}, "forecast": {**other, "difference": row},
    }  # fmt: skip
    gone = {**other, "difference": None, "why_not_named": "features.hourly no longer holds the rows that were issued"}
    damaged = ["market.bars on 2016-01-04: the ledger says so, the table does not"]
    report = {
        **REPLAY, "equal": False, "simulated": False, "arrived_since": {}, "damaged": damaged,
        "issues": [issue, {**issue, "model_id": "tft-2", "features": gone, "forecast": SAME}],
    }  # fmt: skip
    text = printed(capsys, "replay", report)
    assert "SIMULATED" not in text
    assert "about the time before: nothing." in text
    assert "tft-1: issued by version 0.1, rebuilt by 0.2" in text
    assert "features.hourly: ticker AAPL: close was 1.5 and is 1.25" in text
    assert "forecasts.quantiles: ticker AAPL: issued was a row, rebuilt is no row" in text
    assert "what differs cannot be named: features.hourly no longer holds the rows that were issued" in text
    assert "changed behind the writer's back: market.bars on 2016-01-04" in text
    assert "different: what is rebuilt is not what was issued then" in text


def test_the_universe_shows_who_counts_since_when_and_who_decides(capsys: pytest.CaptureFixture[str]) -> None:
    none = {"added_at": None, "member_from": None, "removed_at": None, "bars": 0, "first_bar": None, "last_bar": None}
    rows = [
        {**none, "ticker": "AAPL", "state": "member", "bars": 1200, "first_bar": "2026-01-05T14:00:00+00:00"},
        {**none, "ticker": "NVDA", "state": "waiting", "added_at": "2026-06-10T12:00:00+00:00"},
    ]
    report = {"simulated": True, "decided_by": "ops.universe", "note": "TFT_TICKERS names AAPL", "tickers": rows}
    text = printed(capsys, "universe", report)
    for said in (
        "SIMULATED market",
        "The universe, by ops.universe",
        "TFT_TICKERS names AAPL",
        "waiting",
    ):
        assert said in text


def test_a_change_of_the_universe_says_what_to_do_next_and_what_is_still_held(
    capsys: pytest.CaptureFixture[str],
) -> None:
    added = {
        "change": "add",
        "done": ["NVDA"],
        "already": ["AAPL"],
        "note": None,
        "next": "tft-pipeline backfill --ticker NVDA",
    }
    text = printed(capsys, "universe change", added)
    assert "NVDA: followed from now on" in text
    assert "AAPL: followed already" in text
    assert "Load it now: tft-pipeline backfill --ticker NVDA" in text
    removed = {"change": "remove", "done": ["IBM"], "already": ["AMD"], "note": "a note", "shares": {"IBM": 1200}}
    text = printed(capsys, "universe change", removed)
    assert "IBM: followed no longer; no row of the past is deleted" in text
    assert "AMD: was removed before" in text
    assert "holds 1,200 shares of IBM" in text
    assert "a note" in text


def test_a_run_about_some_tickers_names_those_that_do_not_count_yet(capsys: pytest.CaptureFixture[str]) -> None:
    report = {"job": "history", "from": "2026-01-01", "to": "2026-01-02", "run_id": "abc", "rows_written": {}}
    assert "NVDA does not count yet" in printed(capsys, "run", {**report, "waiting": ["NVDA"]})
