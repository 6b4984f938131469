"""`tft-pipeline replay` as its user runs it."""

import json
from datetime import date, timedelta

from tft_pipeline_tests.e2e.conftest import World


def test_a_past_moment_is_rebuilt_and_found_equal(world: World) -> None:
    day = date.fromisoformat(world.report["history"]["trained_as_of"]) + timedelta(days=10)
    moment = f"{day}T15:00Z"
    found = world.run("replay", "--as-of", moment, "--json")
    report = json.loads(found.stdout)  # one object, and nothing else
    assert report["equal"] is True
    assert report["simulated"] is True
    assert report["issued_at"] <= f"{day}T15:00:00+00:00"
    *models, baseline = [issue["model_id"] for issue in report["issues"]]
    assert baseline == "baseline-ewma"
    assert models  # more than one, where another test has trained one for these days meanwhile
    assert all(model.startswith("tft-") for model in models)
    text = " ".join(world.run("replay", "--as-of", moment).stdout.split())
    assert "SIMULATED market" in text
    assert report["issues"][0]["features"]["issued"][:10] in text
    assert "equal: features and forecasts are what was issued then, hash for hash" in text


def test_moments_that_are_none_are_refused_in_a_sentence(world: World) -> None:
    for moment, said in (
        ("yesterday", "--as-of 'yesterday' is no moment; write it as 2016-01-04T15:00Z"),
        ("2016-01-04T15:00", "2016-01-04T15:00:00 has no time zone; say 2016-01-04T15:00Z for UTC"),
        ("2999-01-04T15:00Z", "is still to come"),
        ("2016-01-04T15:00Z", "nothing had been issued by 2016-01-04 15:00 UTC; the first forecasts were known at"),
    ):
        found = world.run("replay", "--as-of", moment, check=False)
        assert found.returncode == 1
        assert said in " ".join(found.stderr.split())
        assert "Traceback" not in found.stderr
