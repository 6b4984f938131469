"""Settings: precedence, the worlds they name, and errors that say which setting, what, and what to do."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.errors import ConfigError


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in config.os.environ if name.startswith("TFT_") and name != "TFT_REQUIRE_SHARED"]:
        monkeypatch.delenv(name)


def test_the_environment_beats_what_was_remembered_and_an_argument_beats_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.load(home=tmp_path, training={"max_epochs": 3}, calendar="24/7").remember()
    assert config.load(home=tmp_path).training.max_epochs == 3
    monkeypatch.setenv("TFT_TRAINING_MAX_EPOCHS", "5")
    assert config.load(home=tmp_path).training.max_epochs == 5
    loaded = config.load(home=tmp_path, training={"max_epochs": 8})
    assert loaded.training.max_epochs == 8
    assert loaded.calendar == "24/7"


def test_lists_in_the_environment_are_separated_by_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFT_TICKERS", "AAPL, BAC,,SPY")
    monkeypatch.setenv("TFT_REDDIT_SUBREDDITS", "stocks")
    loaded = config.load(home=tmp_path)
    assert loaded.tickers == ("AAPL", "BAC", "SPY")
    assert loaded.reddit.subreddits == ("stocks",)


def test_home_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFT_HOME", str(tmp_path / "state"))
    assert config.load().home == tmp_path / "state"


def test_a_world_is_found_again_after_another_was_looked_at(tmp_path: Path) -> None:
    simulated = config.load(home=tmp_path).changed(start=date(2026, 1, 5))
    simulated.remember()
    files = config.load(home=tmp_path, market="files:/data/us5", posts="none")
    assert files.start is None
    files.changed(start=date(2013, 7, 1), end=date(2016, 3, 31)).remember()
    assert config.load(home=tmp_path).market == "files:/data/us5"
    assert config.load(home=tmp_path).end is None  # a folder may grow: its span is looked up anew
    again = config.load(home=tmp_path, market="simulated", posts="simulated")
    assert again.start == date(2026, 1, 5)
    assert again.end is None


def test_worlds_are_named_apart(tmp_path: Path) -> None:
    plain = config.load(home=tmp_path)
    assert plain.world == "simulated"
    assert plain.changed(seed=8).world != "simulated"
    files = plain.changed(market="files:/data/My Folder!", posts="none")
    assert files.world.startswith("files_my_folder_")
    assert files.world != plain.changed(market="files:/other/My Folder!", posts="none").world
    assert plain.changed(market="yahoo", posts="reddit").world == "live"
    assert plain.changed(market="massive", posts="reddit").world == "live"


def test_no_secret_is_remembered_or_printed(tmp_path: Path) -> None:
    secret = config.load(home=tmp_path, postgres_dsn="postgresql://u:hunter2@h/db", reddit={"client_secret": "hunter3"})
    secret.remember()
    assert "hunter" not in secret.settings_file.read_text()
    assert "hunter" not in repr(secret)
    assert json.loads(secret.settings_file.read_text())["chosen"] == {}


def test_massives_key_is_read_and_never_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFT_MASSIVE_API_KEY", " hunter4\n")
    loaded = config.load(home=tmp_path, market="massive", posts="none", massive={"bars": "hour"})
    assert loaded.massive.api_key is not None
    assert loaded.massive.api_key.get_secret_value() == "hunter4"
    loaded.remember()
    assert "hunter" not in loaded.settings_file.read_text() + repr(loaded)
    assert json.loads(loaded.settings_file.read_text())["chosen"]["massive"] == {"bars": "hour"}
    loaded.changed(massive={"bars": "minute"}).remember()
    assert "massive" not in json.loads(loaded.settings_file.read_text())["chosen"]


@pytest.mark.parametrize("key", ["hunter 5", "hunter\n5", "húnter", 5])
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(tmp_path: Path, key: object) -> None:
    with pytest.raises(ConfigError, match="setting TFT_MASSIVE_API_KEY: ") as caught:
        config.load(home=tmp_path, massive={"api_key": key})
    assert "nter" not in str(caught.value)
    assert "5" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"market": "nasdaq"},
            "setting TFT_MARKET: 'nasdaq' is no source; use simulated, files:FOLDER, yahoo or massive (bars), reddit or none (posts)",
        ),
        ({"market": "reddit", "posts": "none"}, "market='reddit' gives no bars"),
        ({"market": "yahoo", "posts": "yahoo"}, "posts='yahoo' gives no posts"),
        ({"market": "massive", "posts": "massive"}, "posts='massive' gives no posts"),
        (
            {"massive": {"base_url": "http://api.massive.com"}},
            "setting TFT_MASSIVE_BASE_URL: would carry the key in the clear or is no address; use https://host (got 'http://api.",
        ),
        ({"massive": {"bars": "day"}}, "setting TFT_MASSIVE_BARS: Input should be 'minute' or 'hour' (got 'day')"),
        ({"market": "yahoo"}, "would mix simulated and real data"),
        (
            {"training": {"max_epochs": 0}},
            "setting TFT_TRAINING_MAX_EPOCHS: Input should be greater than or equal to 1 (got 0)",
        ),
        ({"start": "2026-02-01", "end": "2026-01-01"}, "start 2026-02-01 is after end 2026-01-01"),
        ({"colour": "red"}, "setting TFT_COLOUR"),
    ],
)
def test_a_bad_setting_is_named_with_its_remedy(tmp_path: Path, values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(home=tmp_path, **values)
    assert message in str(caught.value)


def test_a_damaged_settings_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ConfigError, match=r"settings\.json is not JSON .* mend or delete it"):
        config.load(home=tmp_path)


def test_children_get_the_home_and_the_running_database(tmp_path: Path) -> None:
    settings: Settings = config.load(home=tmp_path)
    environment = settings.child_environment("postgresql://x")
    assert environment["TFT_HOME"] == str(tmp_path)
    assert environment["TFT_POSTGRES_DSN"] == "postgresql://x"
    assert environment["DAGSTER_HOME"] == str(tmp_path / "dagster")
    assert "DAGSTER_EVENT_BATCH_SIZE" not in environment


def test_bulk_runs_batch_dagsters_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TFT_HOME", "TFT_POSTGRES_DSN", "DAGSTER_HOME", "DAGSTER_DISABLE_TELEMETRY", "DAGSTER_EVENT_BATCH_SIZE",
                 "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"):  # fmt: skip
        monkeypatch.setenv(name, "before")
    config.load(home=tmp_path, postgres_dsn="postgresql://x").export("postgresql://y", bulk=True)
    assert config.os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "500"
    assert config.os.environ["TFT_POSTGRES_DSN"] == "postgresql://y"


def test_files_that_ship_with_the_package_are_found() -> None:
    assert config.bundled("dagster.yaml").read_text().startswith("# Dagster's own storage")
    with pytest.raises(ConfigError, match=r"nothing\.yaml lies neither in"):
        config.bundled("nothing.yaml")


def test_without_a_start_history_is_as_long_as_yahoo_keeps_it() -> None:
    assert config.default_start() == config.today() - timedelta(days=729)


def test_a_misspelt_setting_is_refused_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFT_TRAINING_MAX_EPOCS", "5")
    with pytest.raises(
        ConfigError, match=r"TFT_TRAINING_MAX_EPOCS: there is none of this name; did you mean TFT_TRAINING_MAX_EPOCHS\?"
    ):
        config.load(home=tmp_path)


def test_a_simulated_market_that_began_elsewhere_is_another(tmp_path: Path) -> None:
    config.load(home=tmp_path).changed(start=date(2026, 1, 5)).remember()
    assert config.load(home=tmp_path, start=date(2026, 1, 5)).start == date(2026, 1, 5)
    with pytest.raises(
        ConfigError, match="this simulated market began on 2026-01-05, and one that begins on 2026-01-06"
    ):
        config.load(home=tmp_path, start=date(2026, 1, 6))


def test_another_calendar_is_another_simulated_world(tmp_path: Path) -> None:
    assert config.load(home=tmp_path, calendar="24/7").world != config.load(home=tmp_path).world
