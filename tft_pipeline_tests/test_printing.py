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
