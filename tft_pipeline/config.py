"""The only reader of the environment: frozen settings per stage, handed down.

Order of precedence: a value given in code or on the command line, `TFT_<STAGE>_<FIELD>` in the environment (`TFT_<FIELD>` for the
top level), what the last `demo` or `up` chose in `$TFT_HOME/settings.json`, the default here.
"""

import difflib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from tft_pipeline.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT_RETENTION_YEARS = 5
_BUNDLED = Path(__file__).resolve().parent / "_bundled"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SentimentSettings(_Frozen):
    scorer: str = Field(
        "bundled", description="bundled | vader | a Hugging Face model id (fetched once, safetensors only)."
    )
    batch_size: int = Field(64, ge=1, le=4096)
    max_tokens: int = Field(128, ge=16, le=512)


class TrainingSettings(_Frozen):
    encoder_bars: int = Field(24, ge=4, le=512, description="Bars of history in a window.")
    horizon_hours: int = Field(6, ge=1, le=24, description="Bars ahead.")
    hidden_size: int = Field(16, ge=4, le=512)
    attention_heads: int = Field(2, ge=1, le=16)
    dropout: float = Field(0.1, ge=0.0, le=0.9)
    learning_rate: float = Field(3e-3, gt=0.0, le=1.0)
    weight_decay: float = Field(1e-2, ge=0.0)
    batch_size: int = Field(64, ge=8, le=65536, description="Tried first; halved for as long as memory runs out.")
    max_epochs: int = Field(6, ge=1, le=1000)
    windows_per_epoch: int = Field(5_000, ge=32, description="Random training windows an epoch.")
    patience: int = Field(3, ge=1, description="Epochs without a better validation loss before the fit stops.")
    gradient_clip: float = Field(1.0, gt=0.0)
    validation_share: float = Field(
        0.15, gt=0.0, lt=0.5, description="Newest share of the history, kept for validation."
    )
    history_days: int = Field(1461, ge=30, description="Calendar days of features that a fit sees.")
    device: str = Field("auto", description="auto | cpu | cuda | cuda:N.")
    inputs: tuple[str, ...] = Field(
        (), description="Features that the model reads; empty: all but the month (training/identity.py)."
    )


class SignalSettings(_Frozen):
    decision_horizon_hours: int | None = Field(None, ge=1, le=24, description="None: the longest that is forecast.")
    minimum_confidence: float = Field(
        0.55, ge=0.5, le=1.0, description="Probability of the direction below which it is HOLD."
    )
    maximum_weight: float = Field(
        0.2, gt=0.0, le=1.0, description="Largest share of equity in one ticker, long or short."
    )
    allow_short: bool = True


class PortfolioSettings(_Frozen):
    initial_cash_usd: float = Field(1_000_000.0, gt=0.0)
    half_spread_bps: float = Field(2.0, ge=0.0, description="Paid on every fill, in 1/10,000 of its price.")
    fee_usd_per_share: float = Field(0.005, ge=0.0)
    minimum_trade_weight: float = Field(0.02, ge=0.0, description="Changes of weight smaller than this are not traded.")


class MonitoringSettings(_Frozen):
    recent_days: int = Field(30, ge=5)
    cooldown_hours: int = Field(24, ge=1, description="Between two retrainings that drift asked for.")
    drifted_share: float = Field(0.3, gt=0.0, le=1.0, description="Share of drifted features that asks for retraining.")


class SimulationSettings(_Frozen):
    tickers: int = Field(8, ge=1, le=5000)
    days: int = Field(300, ge=30, description="Calendar days of history before the first run.")
    signal_strength: float = Field(
        0.35, ge=0.0, le=1.0, description="Correlation of mood with the next bar's return; 0: none."
    )


class YahooSettings(_Frozen):
    connections: int = Field(8, ge=1, le=32, description="Requests under way at the same time.")
    requests_per_second: float = Field(
        10.0, ge=0.0, le=1000.0, description="No more than so many begin in a second; 0: no limit of ours."
    )


class MassiveSettings(_Frozen):
    """Massive, formerly Polygon.io. The key comes from the environment and is never written down."""

    api_key: SecretStr | None = None
    base_url: str = "https://api.massive.com"
    bars: Literal["minute", "hour"] = Field(
        "minute", description="minute: joined to the session's own hours; hour: clock hours as Massive serves them."
    )
    requests_per_minute: int = Field(
        5,
        ge=0,
        le=60_000,
        description="No more than so many begin in a minute; 5: the free plan's; 0: no limit of ours.",
    )

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        key = value.get_secret_value().strip() if value else ""
        if not re.fullmatch(r"[!-~]*", key):
            raise ValueError("holds a space or a sign that no key has; copy it again from massive.com/dashboard")
        return SecretStr(key) if key else None

    @field_validator("base_url")
    @classmethod
    def _keeps_the_key_safe(cls, value: str) -> str:
        parts = urlsplit(value)
        is_here = parts.hostname in ("127.0.0.1", "::1", "localhost")
        safe = parts.scheme == "https" or (parts.scheme == "http" and is_here)
        if not parts.hostname or parts.username or parts.query or parts.fragment or not safe:
            raise ValueError("would carry the key in the clear or is no address; use https://host")
        return value.rstrip("/")


class RedditSettings(_Frozen):
    client_id: str | None = None
    client_secret: SecretStr | None = None
    user_agent: str = "tft-pipeline/0.1 (hourly market forecasts)"
    subreddits: tuple[str, ...] = ("wallstreetbets", "stocks", "investing")
    searches: tuple[str, ...] = Field((), description="Also what these find in all of Reddit, newest first.")
    comments: bool = Field(True, description="Comments of the subreddits besides their submissions.")
    recheck_days: int = Field(
        2, ge=0, le=30, description="Posts of the last so many days are read again for edits and deletions; 0: none."
    )
    reddit_url: str = "https://www.reddit.com"
    oauth_url: str = "https://oauth.reddit.com"


class QualitySettings(_Frozen):
    floor: float = Field(
        0.25,
        ge=0.0,
        le=1.0,
        description="Mean score of a day's tickers below which nothing is built on its bars; 0: never.",
    )


class StorageSettings(_Frozen):
    months_ahead: int = Field(3, ge=0, le=24, description="Monthly partitions made before they are needed.")
    retention_years: int | None = Field(
        None,
        ge=0,
        le=100,
        description="Older months are retired. None: five years, or all where history has an end; 0: all.",
    )


class Settings(_Frozen):
    """Everything that a run depends on. `world` names the data set, so that two never mix in one database."""

    home: Path
    postgres_dsn: SecretStr | None = Field(
        None, description="External PostgreSQL 15+; none: the embedded server under home."
    )
    market: str = Field("simulated", description="simulated | files:FOLDER | yahoo | massive")
    market_overlap_days: int = Field(
        5,
        ge=0,
        le=60,
        description="Trading days before the newest that each refresh asks for again, to see what was restated; 0: none.",
    )
    posts: str = Field("simulated", description="simulated | files:FOLDER | reddit | none")
    tickers: tuple[str, ...] = Field((), description="Empty: every ticker that the source offers (files, simulated).")
    calendar: str = Field("XNYS", description="exchange_calendars name; 24/7 for crypto.")
    seed: int = Field(7, ge=0, lt=2**31)
    start: date | None = Field(
        None, description="First day of the partitions; None: the source's first, or two years ago."
    )
    end: date | None = Field(None, description="Last day of the partitions; None: today, moving on.")
    sentiment: SentimentSettings = SentimentSettings()
    training: TrainingSettings = TrainingSettings()
    signals: SignalSettings = SignalSettings()
    portfolio: PortfolioSettings = PortfolioSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    simulation: SimulationSettings = SimulationSettings()
    quality: QualitySettings = QualitySettings()
    storage: StorageSettings = StorageSettings()
    yahoo: YahooSettings = YahooSettings()
    massive: MassiveSettings = MassiveSettings()
    reddit: RedditSettings = RedditSettings()

    @field_validator("market", "posts")
    @classmethod
    def _known_source(cls, value: str) -> str:
        if value in ("simulated", "yahoo", "massive", "reddit", "none"):
            return value
        if value.startswith("files:") and len(value) > 6:
            return f"files:{Path(value[6:]).expanduser().resolve()}"  # remembered in settings.json, read from another folder
        raise ValueError(
            f"{value!r} is no source; use simulated, files:FOLDER, yahoo or massive (bars), reddit or none (posts)"
        )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.market in ("reddit", "none"):
            raise ValueError(f"market={self.market!r} gives no bars; use simulated, files:FOLDER, yahoo or massive")
        if self.posts in ("yahoo", "massive"):
            raise ValueError(f"posts={self.posts!r} gives no posts; use simulated, files:FOLDER, reddit or none")
        if (self.market == "simulated") != (self.posts == "simulated") and self.posts != "none":
            raise ValueError(
                f"market={self.market!r} with posts={self.posts!r} would mix simulated and real data; "
                "simulate both or neither, or set posts=none"
            )
        if self.start and self.end and self.start > self.end:
            raise ValueError(f"start {self.start} is after end {self.end}")
        if self.storage.retention_years and self.storage.retention_years * 365 < self.training.history_days:
            raise ValueError(
                f"TFT_STORAGE_RETENTION_YEARS={self.storage.retention_years} would retire what a fit reads "
                f"(TFT_TRAINING_HISTORY_DAYS={self.training.history_days}); keep more years, or train on fewer days"
            )
        return self

    @property
    def retention_years(self) -> int | None:
        """Years of data that stay in the tables; None: all.

        Unless said otherwise, five in a world that moves on. History that has an end does not grow: it was asked for whole.
        """
        if self.storage.retention_years is None:
            return None if self.end else DEFAULT_RETENTION_YEARS
        return self.storage.retention_years or None

    @property
    def simulated(self) -> bool:
        return self.market == "simulated"

    @property
    def world(self) -> str:
        """`simulated`, `files_<folder>_<hash>` or `live`: also the embedded database's name, hence [a-z0-9_] and at most 63 long."""
        if self.simulated:
            return (
                "simulated"
                if (self.seed, self.calendar, self.simulation) == (7, "XNYS", SimulationSettings())
                else f"simulated_{self._digest()}"
            )
        if self.market.startswith("files:"):
            folder = Path(self.market[6:])
            name = re.sub(r"[^a-z0-9]+", "_", folder.name.lower())[:30].strip("_")
            return f"files_{name}_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
        return "live"

    def _digest(self) -> str:
        return hashlib.sha256(f"{self.seed} {self.calendar} {self.simulation.model_dump_json()}".encode()).hexdigest()[
            :8
        ]

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def settings_file(self) -> Path:
        return self.home / "settings.json"

    def changed(self, **values: Any) -> "Settings":
        """A copy with values replaced, validated as a whole. Stage settings are given as mappings: training={"max_epochs": 3}."""
        merged = _merge(self._plain(), {k: v for k, v in values.items() if v is not None})
        return _validated(merged)

    def remember(self) -> None:
        """Write what differs from the defaults, but no secret, to settings.json: `up` then shows what `demo` made.

        Where history begins and ends is kept for each world, so that going to another and back finds everything again.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        left_out: dict[str, Any] = dict.fromkeys(("home", "postgres_dsn", "reddit", "start", "end"), True)
        left_out["massive"] = {"api_key"}
        chosen = self.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
        chosen = {name: value for name, value in chosen.items() if value != {}}
        span = {"start": self.start and self.start.isoformat(), "end": self.end and self.end.isoformat()}
        worlds = _remembered(self.home).get("worlds", {})
        if not self.market.startswith("files:"):  # files know their span themselves, and may grow
            worlds = {**worlds, self.world: span}
        content = {"chosen": chosen, "worlds": worlds}
        temporary = self.settings_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        temporary.replace(self.settings_file)

    def child_environment(self, postgres_dsn: str) -> dict[str, str]:
        """The environment for processes that we start: ours, with these settings and the database that is already running."""
        return {**os.environ, **self._variables(postgres_dsn)}

    def export(self, postgres_dsn: str, *, bulk: bool) -> None:
        """Set this process's environment for Dagster, which reads it. bulk: for a run over many days, where an event a day would
        cost more than the work; a day that fails then shows as missing instead of failed (docs/decisions/0002)."""
        os.environ.update(self._variables(postgres_dsn))
        if bulk:
            os.environ.update(
                {"DAGSTER_EVENT_BATCH_SIZE": "500", "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1"}
            )

    def _variables(self, postgres_dsn: str) -> dict[str, str]:
        return {
            "TFT_HOME": str(self.home),
            # SQLAlchemy knows no postgres://, and takes postgresql+psycopg:// for a driver that Dagster cannot use (FAULTS 1). The query
            # string, TLS options and all, goes through to libpq.
            "TFT_POSTGRES_DSN": re.sub(
                r"^postgres(?:ql)?(?:\+\w+)?://", "postgresql://", postgres_dsn, flags=re.IGNORECASE
            ),
            "DAGSTER_HOME": str(self.dagster_home),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
        }

    def _plain(self) -> dict[str, Any]:
        return {name: _dump(getattr(self, name)) for name in type(self).model_fields}


def load(**overrides: Any) -> Settings:
    """Settings from overrides, the environment, `$TFT_HOME/settings.json` and the defaults, in this order.

    Raises ConfigError naming the setting, the value and the remedy.
    """
    home = Path(overrides.pop("home", None) or os.environ.get("TFT_HOME") or _default_home()).expanduser().resolve()
    given = _merge(_from_environment(os.environ), {k: v for k, v in overrides.items() if v is not None})
    remembered = _remembered(home)
    chosen = remembered.get("chosen", {})
    if "market" in given and _validated({"home": home, **_sources(given)}).market != chosen.get("market", "simulated"):
        chosen = {}  # another market: what was chosen for the last one does not carry over
    settings = _validated(_merge({"home": home, **chosen}, given))
    span = remembered.get("worlds", {}).get(settings.world, {})
    if settings.simulated and settings.start and span.get("start", str(settings.start)) != str(settings.start):
        raise ConfigError(
            f"setting TFT_START: this simulated market began on {span['start']}, and one that begins on {settings.start} is another. "
            "Leave it out, or choose another TFT_HOME or TFT_SEED."
        )
    return settings.changed(**{k: v for k, v in span.items() if getattr(settings, k) is None})


def _sources(given: Mapping[str, Any]) -> dict[str, Any]:
    """The market asked for, and no posts: enough to tell which market it is."""
    return {"market": given["market"], "posts": "none"}


def _remembered(home: Path) -> dict[str, Any]:
    file = home / "settings.json"
    if not file.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON ({error}); mend or delete it.") from None
    return content


def day_start(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def today() -> date:
    return datetime.now(UTC).date()


def default_start() -> date:
    """Two years less a day: as far back as Yahoo's hourly bars reach."""
    return today() - timedelta(days=729)


def bundled(name: str) -> Path:
    """`sql`, `dagster.yaml` or `workspace.yaml`: from the checkout, or from the wheel where there is none."""
    for candidate in (CHECKOUT / name, _BUNDLED / name):
        if candidate.exists() and (candidate.parent != CHECKOUT or (CHECKOUT / "pyproject.toml").exists()):
            return candidate
    raise ConfigError(f"{name} lies neither in {CHECKOUT} nor in {_BUNDLED}; install tft-pipeline again.")


def _default_home() -> Path:
    return (CHECKOUT if (CHECKOUT / "pyproject.toml").exists() else Path.cwd()) / ".tft"


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    _refuse_unknown(environment)
    for name, field in Settings.model_fields.items():
        stage = field.annotation
        if isinstance(stage, type) and issubclass(stage, _Frozen):
            found = {
                f: _parse(stage, f, environment[k])
                for f in stage.model_fields
                if (k := _variable(name, f)) in environment
            }
            if found:
                values[name] = found
        elif name != "home" and environment.get(_variable(name)):
            values[name] = _parse(Settings, name, environment[_variable(name)])
    return values


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """A misspelt setting would change nothing, in silence."""
    stages = {
        name: field.annotation.model_fields
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Frozen)
    }
    known = {_variable(stage, name) for stage, fields in stages.items() for name in fields}
    prefixes = tuple(_variable(stage) + "_" for stage in stages)
    for name in sorted(environment):
        if name.startswith(prefixes) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "the settings are listed in tft_pipeline/config.py."
            raise ConfigError(f"setting {name}: there is none of this name; {hint}")


def _variable(*parts: str) -> str:
    return "TFT_" + "_".join(parts).upper()


def _parse(model: type[BaseModel], name: str, text: str) -> Any:
    if "tuple" in str(model.model_fields[name].annotation):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for name, value in over.items():
        below = merged.get(name)
        merged[name] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _dump(value: Any) -> Any:
    return (
        {name: _dump(getattr(value, name)) for name in type(value).model_fields}
        if isinstance(value, _Frozen)
        else value
    )


def _validated(values: Mapping[str, Any]) -> Settings:
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = "_".join(str(part) for part in first["loc"]).upper()
        hidden = not where or any(part in where for part in ("DSN", "SECRET", "KEY"))
        shown = "" if hidden else f" (got {first['input']!r})"
        raise ConfigError(
            f"setting {('TFT_' + where) if where else 'combination'}: {first['msg'].removeprefix('Value error, ')}{shown}."
        ) from None
