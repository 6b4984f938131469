"""No password of a DSN in anything that is printed, logged or recorded: errors, reprs, the doctor, Dagster's events."""

import json
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.errors import PipelineError, redacted
from tft_pipeline.orchestration import launch, reporting
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.doctor import examine
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.database import Database

SECRETS = ("hunter2", "s3same")
DSNS = [
    "postgresql://tft:hunter2@127.0.0.1:1/db?sslpassword=s3same",  # nobody there
    "postgresql://tft:hunter2@127.0.0.1:port/db?sslpassword=s3same",
    "postgresql://tft:hun@ter/hunter2@127.0.0.1/db?sslpassword=s3same",
    "postgres://tft:hunter2%zz@127.0.0.1/db?sslpassword=s3same",
    "postgresql://tft@127.0.0.1:1/db?password=hunter2&sslpassword=s3same",
    "postgresql://127.0.0.1:1/db?user=tft&password=hunter2&sslmode=nonsense&sslpassword=s3same",
    "host=127.0.0.1 user=tft password=hunter2 sslpassword=s3same",
    "mysql://tft:hunter2@127.0.0.1/db?sslpassword=s3same",
]


def told(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def said_by(error: BaseException) -> str:
    """The error, and all that a traceback would show above it."""
    parts = [f"{error} {error!r}"]
    if error.__cause__ is not None:
        parts.append(said_by(error.__cause__))
    if error.__context__ is not None and not error.__suppress_context__:
        parts.append(said_by(error.__context__))
    return " ".join(parts)


@pytest.mark.parametrize("dsn", DSNS)
def test_errors_reprs_and_the_doctor_do_not_tell(dsn: str, tmp_path: Path) -> None:
    settings = config.load(home=tmp_path, postgres_dsn=dsn, sentiment={"scorer": "vader"})
    database = Database(dsn)
    with pytest.raises(PipelineError) as caught:
        database.check()
    settings.remember()
    printed = [
        said_by(caught.value), repr(database), str(database), database.shown, repr(settings), str(settings), settings.model_dump_json(),
        str(settings.model_dump()), repr(Pipeline(settings, database=database)), settings.settings_file.read_text(),
        json.dumps([finding.as_dict() for finding in examine(settings)]), redacted(f"could not parse {dsn!r}: retrying {dsn}"),
    ]  # fmt: skip
    assert [text for text in printed if told(text)] == []


@pytest.mark.parametrize("dsn", [DSNS[0], DSNS[1], DSNS[4]])
def test_a_run_that_fails_on_its_database_records_why_and_not_the_password(
    dsn: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "FIRST_WAIT_SECONDS", 0.01)
    settings = config.load(home=tmp_path, start=date(2026, 1, 1), sentiment={"scorer": "vader"})
    pipeline = Pipeline(settings, database=Database(dsn))
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(PipelineError) as caught:
            launch.run(build(settings, pipeline), "history", instance, date(2026, 1, 5), date(2026, 1, 5))
        (run,) = instance.get_runs()
        events = " ".join(str(event) + (event.user_message or "") for event in instance.all_logs(run.run_id))
    assert "postgresql://" in events or "TFT_POSTGRES_DSN" in events
    shown = capfd.readouterr()
    assert told(events + said_by(caught.value) + shown.out + shown.err) == []


def test_a_setting_that_is_refused_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.load(home=tmp_path, postgres_dsn=["postgresql://tft:hunter2@h/db"])
    assert told(said_by(caught.value)) == []
    assert isinstance(Settings(home=tmp_path, postgres_dsn=SecretStr("x")).postgres_dsn, SecretStr)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgresql://me:s3cr@et/x@host:1/db failed", "postgresql://me:***@host:1/db failed"),
        (
            "postgresql://host/db?password=a&sslpassword=b&sslmode=require",
            "postgresql://host/db?password=***&sslpassword=***&sslmode=require",
        ),
        ("sslpassword='two words' user=me", "sslpassword=*** user=me"),
        ("http://127.0.0.1:3000/asset-groups is up", "http://127.0.0.1:3000/asset-groups is up"),
    ],
)
def test_what_is_redacted(text: str, left: str) -> None:
    assert redacted(text) == left
