"""Every table in flow order: its columns with dtype, unit and meaning, its key, and the column that says which day a row belongs to.

What belongs here: the shape of frames that pass between stages and into PostgreSQL. `sql/` creates the same tables; a test holds
the two against each other. What does not: how a value is computed.
"""

from typing import Any

from tft_pipeline.errors import ContractError
from tft_pipeline.schema import Column, Table

TICKER_PATTERN = r"^[A-Z][A-Z0-9]{0,9}([.\-][A-Z0-9]{1,4})?$"

# Columns that mean the same wherever they stand -----------------------------------------------------------------------

TICKER = Column(name="ticker", dtype="text", unit="-", meaning="Exchange ticker, upper case.", pattern=TICKER_PATTERN)
BAR_START = Column(name="bar_start", dtype="time", unit="UTC", meaning="First moment of the bar.")
BAR_END = Column(name="bar_end", dtype="time", unit="UTC", meaning="First moment after the bar.")
KNOWN_AT = Column(name="known_at", dtype="time", unit="UTC", meaning="When this value was first held.", hashed=False)
ISSUED_AT = Column(name="issued_at", dtype="time", unit="UTC", meaning="End of the newest bar that the row knows.")
HORIZON = Column(name="horizon_hours", dtype="int", unit="trading hours", meaning="Bars ahead.", minimum=1, maximum=24)
MODEL_ID = Column(name="model_id", dtype="text", unit="-", meaning="The model or baseline that said it.")
DAY_START = Column(name="day_start", dtype="time", unit="UTC", meaning="Midnight that begins the day.")


def _text(name: str, meaning: str, **more: Any) -> Column:
    return Column(name=name, dtype="text", unit="-", meaning=meaning, **more)


def _float(name: str, unit: str, meaning: str, **more: Any) -> Column:
    return Column(name=name, dtype="float", unit=unit, meaning=meaning, **more)


def _count(name: str, meaning: str, unit: str = "rows") -> Column:
    return Column(name=name, dtype="int", unit=unit, meaning=meaning, minimum=0)


def _share(name: str, meaning: str) -> Column:
    return _float(name, "0…1", meaning, minimum=0.0, maximum=1.0)


def _time(name: str, meaning: str) -> Column:
    return Column(name=name, dtype="time", unit="UTC", meaning=meaning)


def _cents(name: str, meaning: str, minimum: float | None = None) -> Column:
    return Column(name=name, dtype="int", unit="US cents", meaning=meaning, minimum=minimum)


def _shares(name: str, meaning: str) -> Column:
    return Column(name=name, dtype="int", unit="shares", meaning=meaning)


# Market ---------------------------------------------------------------------------------------------------------------

BARS = Table(
    name="market.bars",
    constant="BARS",
    mode="raw",
    time="bar_start",
    key=("ticker", "bar_start"),
    meaning="Hourly prices as traded; splits and dividends lie beside them in market.actions.",
    columns=(
        TICKER,
        BAR_START,
        BAR_END,
        _float("open", "USD a share", "First trade of the bar.", minimum=1e-9),
        _float("high", "USD a share", "Highest trade.", minimum=1e-9),
        _float("low", "USD a share", "Lowest trade.", minimum=1e-9),
        _float("close", "USD a share", "Last trade.", minimum=1e-9),
        _float("volume", "shares", "Shares traded.", minimum=0.0),
        _text("source", "Where the bar came from: files, simulated, yahoo …"),
        KNOWN_AT,
    ),
    generated=(_float("typical_price", "USD a share", "(high + low + close) / 3"),),
    checks=(
        ("low", "high"),
        ("low", "open"),
        ("low", "close"),
        ("open", "high"),
        ("close", "high"),
        ("bar_start", "bar_end"),
    ),
)

ACTIONS = Table(
    name="market.actions",
    constant="ACTIONS",
    mode="raw",
    time="effective_at",
    key=("ticker", "effective_at", "kind"),
    meaning="Corporate actions by the first bar that trades under them.",
    columns=(
        TICKER,
        _time("effective_at", "Start of the first bar that trades under the action."),
        _text(
            "kind",
            "split (new shares per old), dividend (USD a share) or rename (value is 1).",
            allowed=("split", "dividend", "rename"),
        ),
        _float("value", "ratio or USD a share", "New shares per old, or dollars per share.", minimum=1e-9),
        _text("source", "Where the action came from."),
        KNOWN_AT,
        # Not hashed: it came later than the ledger's hashes, and belongs to the row's key as it were.
        _text(
            "former",
            "Of a rename: the ticker under which the same share traded before.",
            nullable=True,
            pattern=TICKER_PATTERN,
            hashed=False,
        ),
    ),
)

QUALITY = Table(
    name="market.quality",
    constant="QUALITY",
    mode="derived",
    time="day_start",
    key=("ticker", "day_start"),
    meaning="How far a ticker's day can be trusted, and which rules spoke against it.",
    columns=(
        TICKER,
        DAY_START,
        _share("score", "1 is faultless; below 0.8 a warning is shown."),
        _count("bars", "Bars held.", "bars"),
        _count("expected_bars", "Bars that the calendar asks for.", "bars"),
        _count("missing_bars", "Expected bars that are not held.", "bars"),
        _count("quarantined_bars", "Bars refused, with a reason each in ops.quarantine.", "bars"),
        _count("stale_bars", "Bars whose four prices repeat the bar before.", "bars"),
        _count("zero_volume_bars", "Bars without a trade.", "bars"),
        _count(
            "outlier_bars", "Bars that jump beyond what their volatility allows, with no action to explain it.", "bars"
        ),
    ),
)

# Sentiment ------------------------------------------------------------------------------------------------------------

POSTS = Table(
    name="sentiment.posts",
    constant="POSTS",
    mode="raw",
    time="created_at",
    key=("channel", "post_id", "created_at"),
    meaning="Social posts as they were read.",
    columns=(
        _text("channel", "Subreddit or data set."),
        _text("post_id", "The channel's own id."),
        _time("created_at", "When it was posted."),
        _text("text", "Title and body."),
        Column(name="score", dtype="int", unit="votes", meaning="Up minus down when first read.", hashed=False),
        _text("text_hash", "SHA-256 of the cleaned text, hex: the key of its cached score."),
        _text("source", "Where the post came from."),
        KNOWN_AT,
    ),
)

WHOLE_HOUR = 2**60 - 1  # COVERAGE.minutes with every minute's bit

COVERAGE = Table(
    name="sentiment.coverage",
    constant="COVERAGE",
    mode="raw",
    time="hour_start",
    key=("channel", "kind", "hour_start"),
    meaning="How much of each hour was surely read, of each channel and kind of post that was asked for; what was read once stays so.",
    columns=(
        _text("channel", "Subreddit in lower case; the source's name where it is read whole."),
        _text(
            "kind",
            "submissions or comments of a subreddit; posts where a source is read whole.",
            allowed=("submissions", "comments", "posts"),
        ),
        _time("hour_start", "First moment of the clock hour."),
        Column(
            name="minutes",
            dtype="int",
            unit="60 bits",
            meaning="Bit n (worth 2^n) stands for minute n of the hour: set where nothing of the minute is missing.",
            minimum=0,
            maximum=WHOLE_HOUR,
        ),
        _text("source", "Where the posts came from."),
        KNOWN_AT,
    ),
    generated=(_share("share", "Share of the hour that is covered: 0 where it was asked for in vain."),),
)

BEARISH = _share("bearish", "Probability of a bearish mood.")
NEUTRAL = _share("neutral", "Probability of neither.")
BULLISH = _share("bullish", "Probability of a bullish mood.")

MENTIONS = Table(
    name="sentiment.mentions",
    constant="MENTIONS",
    mode="derived",
    time="created_at",
    key=("channel", "post_id", "created_at", "ticker"),
    meaning="A post's mood toward one ticker that it speaks of.",
    columns=(
        _text("channel", "Subreddit or data set."),
        _text("post_id", "The channel's own id."),
        _time("created_at", "When it was posted."),
        KNOWN_AT,
        TICKER,
        _text("method", "How the ticker was recognised.", allowed=("cashtag", "bare", "name")),
        _text("label", "The likeliest mood.", allowed=("bearish", "neutral", "bullish")),
        BEARISH,
        NEUTRAL,
        BULLISH,
        _share("confidence", "Probability of the label."),
        _text("scorer", "Id of the model that scored it."),
    ),
)

HOURLY_SENTIMENT = Table(
    name="sentiment.hourly",
    constant="HOURLY_SENTIMENT",
    mode="derived",
    time="hour_start",
    key=("ticker", "hour_start"),
    meaning="The mood toward a ticker in the posts that became known within the hour; hours without a mention have no row.",
    columns=(
        TICKER,
        _time("hour_start", "First moment of the clock hour."),
        _time("hour_end", "First moment after it: from then on the row may be used."),
        _count("bullish_count", "Mentions labelled bullish.", "mentions"),
        _count("bearish_count", "Mentions labelled bearish.", "mentions"),
        _count("neutral_count", "Mentions labelled neutral.", "mentions"),
        _float(
            "momentum",
            "score",
            "Score minus the mean score of the ticker's preceding 24 hours that had mentions; 0 if none.",
        ),
        _share("confidence", "Mean confidence of the hour's labels."),
    ),
    generated=(
        _count("total_count", "All mentions.", "mentions"),
        _float("score", "-1…1", "(bullish - bearish) / total; 0 without mentions."),
    ),
    checks=(("hour_start", "hour_end"),),
)

# Features -------------------------------------------------------------------------------------------------------------

OBSERVED_FEATURES: tuple[Column, ...] = (
    # returns: total return, split- and dividend-adjusted
    _float("return_1h", "log", "Return of the bar against the bar before."),
    _float("return_2h", "log", "Return over 2 bars."),
    _float("return_3h", "log", "Return over 3 bars."),
    _float("return_7h", "log", "Return over 7 bars, a US session."),
    _float("return_14h", "log", "Return over 14 bars."),
    _float("return_35h", "log", "Return over 35 bars, a US week."),
    _float("return_70h", "log", "Return over 70 bars."),
    _float("overnight_return", "log", "Open against the previous close where a session begins, else 0."),
    _float("intrabar_return", "log", "Close against open."),
    # volatility, per square-root hour
    _float("volatility_7h", "per √hour", "Standard deviation of return_1h over 7 bars.", minimum=0.0),
    _float("volatility_35h", "per √hour", "Over 35 bars: the scale of the forecast's target.", minimum=0.0),
    _float("volatility_140h", "per √hour", "Over 140 bars.", minimum=0.0),
    _float("volatility_ewma", "per √hour", "Exponentially weighted, decay 0.94 a bar.", minimum=0.0),
    _float("volatility_parkinson_14h", "per √hour", "From high and low (Parkinson 1980) over 14 bars.", minimum=0.0),
    _float(
        "volatility_garman_klass_14h",
        "per √hour",
        "From open, high, low, close (Garman, Klass 1980) over 14 bars.",
        minimum=0.0,
    ),
    _float("volatility_ratio", "ratio", "volatility_7h / volatility_140h.", minimum=0.0),
    # the bar's shape
    _float("high_low_range", "log", "High against low.", minimum=0.0),
    _share("close_location", "Where the close lies between low (0) and high (1); 0.5 in a flat bar."),
    # trend and oscillators, all free of scale
    _float("average_true_range_14h", "share of close", "Mean true range over 14 bars (Wilder 1978)."),
    _share("relative_strength_14h", "RSI over 14 bars, as a share (Wilder 1978; simple means)."),
    _float("macd", "volatilities", "EMA 12 minus EMA 26 of the log price, over volatility_35h."),
    _float("macd_histogram", "volatilities", "macd minus its EMA 9."),
    _float("bollinger_position_20h", "deviations", "Log price against its 20-bar mean, in its deviations."),
    _share("stochastic_14h", "Close between the 14-bar low (0) and high (1)."),
    _float("drawdown_70h", "log", "Close against the highest close of 70 bars.", maximum=0.0),
    _float("skewness_70h", "-", "Skewness of return_1h over 70 bars."),
    _float("autocorrelation_35h", "-1…1", "First autocorrelation of return_1h over 35 bars."),
    # volume
    _float("volume_relative_35h", "log", "Volume + 1 against the mean of 35 bars, split-adjusted."),
    _float("volume_deviation_70h", "deviations", "Log volume against 70 bars."),
    _float("volume_change_1h", "log", "Volume + 1 against the bar before, split-adjusted."),
    _float("price_volume_correlation_35h", "-1…1", "return_1h with the change of log volume."),
    _float("vwap_distance_7h", "log", "Close against the volume-weighted typical price of 7 bars."),
    _float("illiquidity_35h", "log", "Log of mean |return_1h| per million dollars traded (Amihud 2002)."),
    # the market around it
    _float("market_return_1h", "log", "Mean return_1h of the universe in the same bar."),
    _float("market_return_7h", "log", "Mean return_7h of the universe."),
    _float("relative_return_7h", "log", "return_7h minus market_return_7h."),
    _share("breadth_1h", "Share of the universe that rose in the bar."),
    # mood
    _float("sentiment_score", "-1…1", "Mood of posts since the bar before, shrunk toward neutral when few."),
    _float("sentiment_score_7h", "-1…1", "The same over 7 bars."),
    _float("sentiment_momentum", "-2…2", "sentiment_score minus its mean over 35 bars."),
    _share("sentiment_confidence", "Mean confidence of those posts; 0 without any."),
    _float(
        "sentiment_disagreement", "0…1", "1 - |bullish - bearish| / (bullish + bearish); 0 without either.", minimum=0.0
    ),
    _float("mentions_log", "log", "log(1 + mentions since the bar before).", minimum=0.0),
    _float("mentions_attention", "log", "mentions_log minus its mean over 70 bars."),
)

KNOWN_FEATURES: tuple[Column, ...] = (
    # the calendar, known ahead for any future bar
    _float(
        "hour_sin",
        "-1…1",
        "Hours from the session's open to the bar's end, on a circle of 24: the time of day, whatever daylight saving does.",
    ),
    _float("hour_cos", "-1…1", "The same, cosine."),
    _float("weekday_sin", "-1…1", "Day of the week on a circle."),
    _float("weekday_cos", "-1…1", "The same, cosine."),
    _float("month_sin", "-1…1", "Month on a circle."),
    _float("month_cos", "-1…1", "The same, cosine."),
    _share("session_progress", "How much of the session has passed at the bar's end."),
    _float(
        "hours_since_previous_bar",
        "log hours",
        "log(1 + hours between this bar's start and the end of the bar before).",
    ),
)

FEATURES = Table(
    name="features.hourly",
    constant="FEATURES",
    mode="derived",
    time="bar_start",
    key=("ticker", "bar_start"),
    meaning="What was known about each ticker at the end of each bar.",
    columns=(
        TICKER,
        BAR_START,
        BAR_END,
        _float("close", "USD a share", "Close as traded.", minimum=1e-9),
        _float(
            "log_price",
            "log",
            "Log of the split-adjusted price: only its differences mean anything. Dividends are in return_1h, not here.",
        ),
        *OBSERVED_FEATURES,
        *KNOWN_FEATURES,
    ),
    checks=(("bar_start", "bar_end"),),
)

# Training and forecasts -----------------------------------------------------------------------------------------------

MODELS = Table(
    name="training.models",
    constant="MODELS",
    mode="derived",
    time="trained_as_of",
    key=("model_id", "trained_as_of"),
    meaning="Trained models, whole: weights, configuration, scalers, what they were trained on and how they did.",
    columns=(
        MODEL_ID,
        _time("trained_as_of", "Nothing later than this was known to the fit."),
        Column(
            name="fitted_at",
            dtype="time",
            unit="UTC",
            meaning="When the fit ended: of models as of one moment, the newest serves.",
            hashed=False,
        ),
        Column(name="config", dtype="json", unit="-", meaning="Architecture, variables, training settings, seed."),
        Column(
            name="metrics",
            dtype="json",
            unit="-",
            meaning="Losses by epoch, validation skill, seconds, device.",
            hashed=False,
        ),
        _text("data_fingerprint", "SHA-256 of the training frame."),
        _text("code_version", "Version of this package that trained it."),
        _text("sha256", "Of the artifact."),
        Column(
            name="artifact",
            dtype="bytes",
            unit="-",
            meaning="safetensors weights and JSON in one zip; nothing pickled.",
        ),
    ),
)

QUANTILES = Table(
    name="forecasts.quantiles",
    constant="QUANTILES",
    mode="derived",
    time="issued_at",
    key=("model_id", "ticker", "issued_at", "horizon_hours"),
    meaning="P10, P50 and P90 of the log return from the forecast's moment to each bar ahead, by model and by baseline.",
    columns=(
        MODEL_ID,
        TICKER,
        ISSUED_AT,
        HORIZON,
        _time("target_at", "End of the bar forecast, by the trading calendar."),
        _float("p10", "log return", "One in ten falls below."),
        _float("p50", "log return", "Half fall below."),
        _float("p90", "log return", "One in ten lies above."),
    ),
    checks=(("p10", "p50"), ("p50", "p90"), ("issued_at", "target_at")),
)

ISSUES = Table(
    name="forecasts.issues",
    constant="ISSUES",
    mode="raw",
    time="issued_at",
    key=("model_id", "issued_at"),
    meaning="What each model issued at the end of each bar, by hash: `replay` rebuilds it and compares (docs/decisions/0007).",
    columns=(
        MODEL_ID,
        ISSUED_AT,
        Column(
            name="known_at",
            dtype="time",
            unit="UTC",
            meaning="When it could first be said: as of this moment its inputs are read again.",
            hashed=False,
        ),
        _text("features_hash", "SHA-256 of the features of all tickers whose bar ended at issued_at, hex."),
        _text("forecast_hash", "SHA-256 of the quantiles that the model issued at issued_at, hex."),
        _count("tickers", "Tickers that were forecast.", "tickers"),
        Column(
            name="code_version",
            dtype="text",
            unit="-",
            meaning="Version of this package that issued it first.",
            hashed=False,
        ),
    ),
    checks=(("issued_at", "known_at"),),
)

SCORES = Table(
    name="forecasts.scores",
    constant="SCORES",
    mode="derived",
    time="matured_at",
    key=("model_id", "ticker", "issued_at", "horizon_hours", "matured_at"),
    meaning="What became of each forecast, on the day its bar closed.",
    columns=(
        MODEL_ID,
        TICKER,
        ISSUED_AT,
        HORIZON,
        _time("matured_at", "End of the bar that decided it."),
        _float("actual", "log return", "What happened."),
        _float("error", "log return", "p50 - actual."),
        _float(
            "pinball", "log return", "Mean pinball loss of the three quantiles (Koenker, Bassett 1978).", minimum=0.0
        ),
        Column(name="covered", dtype="bool", unit="-", meaning="Whether the return fell between P10 and P90."),
    ),
)

# Decisions and money --------------------------------------------------------------------------------------------------

DECISIONS = Table(
    name="signals.decisions",
    constant="DECISIONS",
    mode="derived",
    time="issued_at",
    key=("ticker", "issued_at"),
    meaning="What to do about each ticker at the end of each bar, and why.",
    columns=(
        TICKER,
        ISSUED_AT,
        MODEL_ID,
        _text("action", "What to do.", allowed=("BUY", "SELL", "HOLD")),
        _share("confidence", "How sure the forecast is of the direction."),
        _float("weight", "share of equity", "Signed target weight.", minimum=-1.0, maximum=1.0),
        _text("reason", "A sentence with figures."),
        HORIZON,
        _float("p10", "log return", "Of the horizon decided on."),
        _float("p50", "log return", "Of the horizon decided on."),
        _float("p90", "log return", "Of the horizon decided on."),
    ),
    checks=(("p10", "p50"), ("p50", "p90")),
)

TRADES = Table(
    name="portfolio.trades",
    constant="TRADES",
    mode="derived",
    time="executed_at",
    key=("ticker", "executed_at", "kind"),
    meaning="What changed holdings or cash: fills at the open of the bar after the decision, splits and dividends.",
    columns=(
        TICKER,
        _time("executed_at", "Start of the bar in which it happened."),
        _text("kind", "trade, split or dividend.", allowed=("trade", "split", "dividend")),
        _shares("quantity", "Signed change of shares."),
        _float(
            "price", "USD a share", "Fill price before costs; ratio of a split; dollars of a dividend.", minimum=0.0
        ),
        _cents("cost_cents", "Spread, slippage and fee.", minimum=0.0),
        _cents("cash_change_cents", "Signed change of cash, costs included."),
    ),
)

POSITIONS = Table(
    name="portfolio.positions",
    constant="POSITIONS",
    mode="derived",
    time="marked_at",
    key=("ticker", "marked_at"),
    meaning="Every open position at the end of each bar.",
    columns=(
        TICKER,
        _time("marked_at", "End of the bar."),
        _shares("quantity", "Signed shares held; never 0."),
        _float("price", "USD a share", "Last close as traded.", minimum=1e-9),
        _cents("value_cents", "quantity × price, rounded to the cent."),
    ),
)

EQUITY = Table(
    name="portfolio.equity",
    constant="EQUITY",
    mode="derived",
    time="marked_at",
    key=("marked_at",),
    meaning="The portfolio's worth at the end of each bar; cash + positions = equity is asserted by the database.",
    columns=(
        _time("marked_at", "End of the bar."),
        _cents("cash_cents", "Cash."),
        _cents("positions_cents", "Sum of portfolio.positions at this moment."),
        _cents("equity_cents", "Cash plus positions."),
        _cents("cost_cents", "Costs paid since the mark before.", minimum=0.0),
        _float("drawdown", "share", "Equity against its highest mark so far, minus 1.", maximum=0.0),
    ),
)

# Monitoring -----------------------------------------------------------------------------------------------------------

DRIFT = Table(
    name="monitoring.drift",
    constant="DRIFT",
    mode="derived",
    time="day_start",
    key=("subject", "day_start"),
    meaning="Whether recent features, or forecast errors, still look like those the model was trained on.",
    columns=(
        _text("subject", "A feature's name, or `coverage`, `skill`."),
        DAY_START,
        MODEL_ID,
        _float("statistic", "-", "Distance between reference and recent."),
        _float("threshold", "-", "Above it the subject has drifted.", minimum=0.0),
        Column(name="drifted", dtype="bool", unit="-", meaning="statistic > threshold."),
        _count("reference_rows", "Rows of the reference."),
        _count("recent_rows", "Recent rows."),
    ),
)

TABLES: tuple[Table, ...] = (
    BARS, ACTIONS, QUALITY, POSTS, COVERAGE, MENTIONS, HOURLY_SENTIMENT, FEATURES, MODELS, QUANTILES, ISSUES, SCORES, DECISIONS,
    TRADES, POSITIONS, EQUITY, DRIFT,
)  # fmt: skip


def table(name: str) -> Table:
    """The contract of `schema.table`. Raises ContractError naming those that exist."""
    for candidate in TABLES:
        if candidate.name == name:
            return candidate
    raise ContractError(f"no table {name!r}; contracts.TABLES has {[t.name for t in TABLES]}.")
