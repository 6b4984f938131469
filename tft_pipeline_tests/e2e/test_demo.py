"""The main job, end to end, by the command line: what it prints, what it leaves, and that a repeat changes nothing."""

import json

import pytest

from tft_pipeline.contracts import TABLES
from tft_pipeline_tests.e2e.conftest import World


def test_the_report_says_all_that_was_asked_of_it(world: World) -> None:
    report = world.report
    assert set(report["rows"]) == {table.name for table in TABLES}
    assert set(report["forecast"]) >= {"pinball", "baseline_pinball", "skill", "coverage_80", "n"}
    assert report["simulated"] is True
    assert report["peak_memory_bytes"] > 100 * 2**20
    assert {"market_bars", "features_hourly", "tft_model", "forecasts", "portfolio", "total"} <= set(report["seconds"])
    assert len(report["decisions"]) == 3
    for decision in report["decisions"]:
        assert decision["action"] in ("BUY", "SELL", "HOLD")
        assert decision["reason"]
        assert decision["p10"] <= decision["p50"] <= decision["p90"]
    assert report["portfolio"]["equity_usd"] > 0


@pytest.mark.parametrize(
    "table",
    [
        "market.bars", "market.quality", "sentiment.posts", "sentiment.mentions", "sentiment.hourly", "features.hourly", "training.models",
        "forecasts.quantiles", "forecasts.scores", "signals.decisions", "portfolio.equity", "monitoring.drift",
    ],
)  # fmt: skip
def test_every_stage_left_rows(world: World, table: str) -> None:
    assert world.report["rows"][table] > 0


def test_forecasts_that_were_scored_were_never_trained_on(world: World) -> None:
    from tft_pipeline.contracts import MODELS, SCORES
    from tft_pipeline.forecasts.baselines import BASELINE_ID
    from tft_pipeline.storage.opening import open_database
    from tft_pipeline.storage.read import read

    with open_database(world.settings) as database:
        trained = read(database, MODELS)["trained_as_of"].min()
        scores = read(database, SCORES)
    assert (scores.loc[scores["model_id"] != BASELINE_ID, "issued_at"] > trained).all()
    assert world.report["forecast"]["n"] == int((scores["model_id"] != BASELINE_ID).sum())


def test_the_same_command_again_writes_no_row_and_trains_nothing(world: World) -> None:
    again = json.loads(world.run("demo", "--json").stdout)
    assert set(again["rows_written"].values()) == {0}
    assert again["rows"] == world.report["rows"]
    assert again["forecast"] == world.report["forecast"]
    assert again["decisions"] == world.report["decisions"]
    assert again["portfolio"] == world.report["portfolio"]
    assert again["history"] == world.report["history"]


def test_forecast_prints_the_newest_quantiles_with_their_decision(world: World) -> None:
    report = json.loads(world.run("forecast", "--json", "--ticker", "SIMA").stdout)
    (row,) = report["forecasts"]
    assert row["ticker"] == "SIMA"
    assert [step["horizon_hours"] for step in row["quantiles"]] == [1, 2, 3]
    assert all(step["p10"] <= step["p50"] <= step["p90"] for step in row["quantiles"])
    assert report["simulated"] is True


def test_forecast_names_the_tickers_there_are_when_asked_for_another(world: World) -> None:
    found = world.run("forecast", "--ticker", "NOPE", check=False)
    assert found.returncode == 1
    assert "no forecast for 'NOPE'; there are forecasts for SIMA, SIMB, SIMC" in " ".join(found.stderr.split())
    assert "Traceback" not in found.stderr


def test_a_backfill_of_days_that_are_there_writes_nothing(world: World) -> None:
    last = world.report["history"]["trained_as_of"]
    report = json.loads(world.run("backfill", "--from", last, "--to", last, "--json").stdout)
    assert report["job"] == "refresh"
    assert set(report["rows_written"].values()) == {0}


def test_training_the_same_model_again_is_not_done_unless_asked(world: World) -> None:
    day = world.report["history"]["trained_as_of"]
    assert json.loads(world.run("train", "--as-of", day, "--json").stdout)["rows_written"]["training.models"] == 0
    other = json.loads(world.run("train", "--as-of", day, "--seed", "11", "--max-epochs", "1", "--json").stdout)
    assert other["rows_written"]["training.models"] == 1


def test_doctor_finds_everything_well_and_says_so(world: World) -> None:
    report = json.loads(world.run("doctor", "--json").stdout)
    assert report["healthy"] is True, report
    assert {finding["subject"] for finding in report["findings"]} >= {
        "python",
        "disk",
        "device",
        "bars",
        "scorer",
        "postgres",
        "ledger",
    }


def test_migrate_lists_what_is_applied(world: World) -> None:
    report = json.loads(world.run("migrate", "--json").stdout)
    assert report["migrations"][0] == "0001_ops.sql"


def test_what_a_person_reads_says_that_it_is_simulated(world: World) -> None:
    found = world.run("demo")
    text = " ".join(found.stdout.split())
    assert "SIMULATED market" in text
    assert "Forecast skill" in text
    assert "Decisions at" in text
    assert "Portfolio" in text
    assert "/asset-groups" in text
