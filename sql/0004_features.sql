-- 0004 features
-- What:  features.hourly: what was known about each ticker at the end of each bar.
-- Why:   training, forecasts and drift read the same rows, so that none of them can see more than another.
-- Locks: none on existing tables.
-- Back:  DROP SCHEMA features CASCADE; DELETE FROM ops.migrations WHERE name = '0004_features.sql';

CREATE SCHEMA features;

CREATE TABLE features.hourly (
    ticker                       ops.ticker  NOT NULL,
    bar_start                    timestamptz NOT NULL,
    bar_end                      timestamptz NOT NULL,
    close                        ops.finite  NOT NULL CHECK (close >= 1e-9),
    log_price                    ops.finite  NOT NULL,
    return_1h                    ops.finite  NOT NULL,
    return_2h                    ops.finite  NOT NULL,
    return_3h                    ops.finite  NOT NULL,
    return_7h                    ops.finite  NOT NULL,
    return_14h                   ops.finite  NOT NULL,
    return_35h                   ops.finite  NOT NULL,
    return_70h                   ops.finite  NOT NULL,
    overnight_return             ops.finite  NOT NULL,
    intrabar_return              ops.finite  NOT NULL,
    volatility_7h                ops.finite  NOT NULL CHECK (volatility_7h >= 0),
    volatility_35h               ops.finite  NOT NULL CHECK (volatility_35h >= 0),
    volatility_140h              ops.finite  NOT NULL CHECK (volatility_140h >= 0),
    volatility_ewma              ops.finite  NOT NULL CHECK (volatility_ewma >= 0),
    volatility_parkinson_14h     ops.finite  NOT NULL CHECK (volatility_parkinson_14h >= 0),
    volatility_garman_klass_14h  ops.finite  NOT NULL CHECK (volatility_garman_klass_14h >= 0),
    volatility_ratio             ops.finite  NOT NULL CHECK (volatility_ratio >= 0),
    high_low_range               ops.finite  NOT NULL CHECK (high_low_range >= 0),
    close_location               ops.finite  NOT NULL CHECK (close_location BETWEEN 0 AND 1),
    average_true_range_14h       ops.finite  NOT NULL,
    relative_strength_14h        ops.finite  NOT NULL CHECK (relative_strength_14h BETWEEN 0 AND 1),
    macd                         ops.finite  NOT NULL,
    macd_histogram               ops.finite  NOT NULL,
    bollinger_position_20h       ops.finite  NOT NULL,
    stochastic_14h               ops.finite  NOT NULL CHECK (stochastic_14h BETWEEN 0 AND 1),
    drawdown_70h                 ops.finite  NOT NULL CHECK (drawdown_70h <= 0),
    skewness_70h                 ops.finite  NOT NULL,
    autocorrelation_35h          ops.finite  NOT NULL,
    volume_relative_35h          ops.finite  NOT NULL,
    volume_deviation_70h         ops.finite  NOT NULL,
    volume_change_1h             ops.finite  NOT NULL,
    price_volume_correlation_35h ops.finite  NOT NULL,
    vwap_distance_7h             ops.finite  NOT NULL,
    illiquidity_35h              ops.finite  NOT NULL,
    market_return_1h             ops.finite  NOT NULL,
    market_return_7h             ops.finite  NOT NULL,
    relative_return_7h           ops.finite  NOT NULL,
    breadth_1h                   ops.finite  NOT NULL CHECK (breadth_1h BETWEEN 0 AND 1),
    sentiment_score              ops.finite  NOT NULL,
    sentiment_score_7h           ops.finite  NOT NULL,
    sentiment_momentum           ops.finite  NOT NULL,
    sentiment_confidence         ops.finite  NOT NULL CHECK (sentiment_confidence BETWEEN 0 AND 1),
    sentiment_disagreement       ops.finite  NOT NULL CHECK (sentiment_disagreement >= 0),
    mentions_log                 ops.finite  NOT NULL CHECK (mentions_log >= 0),
    mentions_attention           ops.finite  NOT NULL,
    hour_sin                     ops.finite  NOT NULL,
    hour_cos                     ops.finite  NOT NULL,
    weekday_sin                  ops.finite  NOT NULL,
    weekday_cos                  ops.finite  NOT NULL,
    month_sin                    ops.finite  NOT NULL,
    month_cos                    ops.finite  NOT NULL,
    session_progress             ops.finite  NOT NULL CHECK (session_progress BETWEEN 0 AND 1),
    hours_since_previous_bar     ops.finite  NOT NULL,
    PRIMARY KEY (ticker, bar_start),
    CONSTRAINT hourly_bar_start_le_bar_end CHECK (bar_start <= bar_end)
) PARTITION BY RANGE (bar_start);
CREATE INDEX ON features.hourly (ticker, bar_start DESC);
CREATE INDEX ON features.hourly USING brin (bar_start) WITH (pages_per_range = 16);
COMMENT ON TABLE features.hourly IS 'What was known about each ticker at the end of each bar.';
COMMENT ON COLUMN features.hourly.ticker IS 'Exchange ticker, upper case.';
COMMENT ON COLUMN features.hourly.bar_start IS 'First moment of the bar. [UTC]';
COMMENT ON COLUMN features.hourly.bar_end IS 'First moment after the bar. [UTC]';
COMMENT ON COLUMN features.hourly.close IS 'Close as traded. [USD a share]';
COMMENT ON COLUMN features.hourly.log_price IS 'Log of the split-adjusted price: only its differences mean anything. Dividends are in return_1h, not here. [log]';
COMMENT ON COLUMN features.hourly.return_1h IS 'Return of the bar against the bar before. [log]';
COMMENT ON COLUMN features.hourly.return_2h IS 'Return over 2 bars. [log]';
COMMENT ON COLUMN features.hourly.return_3h IS 'Return over 3 bars. [log]';
COMMENT ON COLUMN features.hourly.return_7h IS 'Return over 7 bars, a US session. [log]';
COMMENT ON COLUMN features.hourly.return_14h IS 'Return over 14 bars. [log]';
COMMENT ON COLUMN features.hourly.return_35h IS 'Return over 35 bars, a US week. [log]';
COMMENT ON COLUMN features.hourly.return_70h IS 'Return over 70 bars. [log]';
COMMENT ON COLUMN features.hourly.overnight_return IS 'Open against the previous close where a session begins, else 0. [log]';
COMMENT ON COLUMN features.hourly.intrabar_return IS 'Close against open. [log]';
COMMENT ON COLUMN features.hourly.volatility_7h IS 'Standard deviation of return_1h over 7 bars. [per √hour]';
COMMENT ON COLUMN features.hourly.volatility_35h IS 'Over 35 bars: the scale of the forecast''s target. [per √hour]';
COMMENT ON COLUMN features.hourly.volatility_140h IS 'Over 140 bars. [per √hour]';
COMMENT ON COLUMN features.hourly.volatility_ewma IS 'Exponentially weighted, decay 0.94 a bar. [per √hour]';
COMMENT ON COLUMN features.hourly.volatility_parkinson_14h IS 'From high and low (Parkinson 1980) over 14 bars. [per √hour]';
COMMENT ON COLUMN features.hourly.volatility_garman_klass_14h IS 'From open, high, low, close (Garman, Klass 1980) over 14 bars. [per √hour]';
COMMENT ON COLUMN features.hourly.volatility_ratio IS 'volatility_7h / volatility_140h. [ratio]';
COMMENT ON COLUMN features.hourly.high_low_range IS 'High against low. [log]';
COMMENT ON COLUMN features.hourly.close_location IS 'Where the close lies between low (0) and high (1); 0.5 in a flat bar. [0…1]';
COMMENT ON COLUMN features.hourly.average_true_range_14h IS 'Mean true range over 14 bars (Wilder 1978). [share of close]';
COMMENT ON COLUMN features.hourly.relative_strength_14h IS 'RSI over 14 bars, as a share (Wilder 1978; simple means). [0…1]';
COMMENT ON COLUMN features.hourly.macd IS 'EMA 12 minus EMA 26 of the log price, over volatility_35h. [volatilities]';
COMMENT ON COLUMN features.hourly.macd_histogram IS 'macd minus its EMA 9. [volatilities]';
COMMENT ON COLUMN features.hourly.bollinger_position_20h IS 'Log price against its 20-bar mean, in its deviations. [deviations]';
COMMENT ON COLUMN features.hourly.stochastic_14h IS 'Close between the 14-bar low (0) and high (1). [0…1]';
COMMENT ON COLUMN features.hourly.drawdown_70h IS 'Close against the highest close of 70 bars. [log]';
COMMENT ON COLUMN features.hourly.skewness_70h IS 'Skewness of return_1h over 70 bars.';
COMMENT ON COLUMN features.hourly.autocorrelation_35h IS 'First autocorrelation of return_1h over 35 bars. [-1…1]';
COMMENT ON COLUMN features.hourly.volume_relative_35h IS 'Volume + 1 against the mean of 35 bars, split-adjusted. [log]';
COMMENT ON COLUMN features.hourly.volume_deviation_70h IS 'Log volume against 70 bars. [deviations]';
COMMENT ON COLUMN features.hourly.volume_change_1h IS 'Volume + 1 against the bar before, split-adjusted. [log]';
COMMENT ON COLUMN features.hourly.price_volume_correlation_35h IS 'return_1h with the change of log volume. [-1…1]';
COMMENT ON COLUMN features.hourly.vwap_distance_7h IS 'Close against the volume-weighted typical price of 7 bars. [log]';
COMMENT ON COLUMN features.hourly.illiquidity_35h IS 'Log of mean |return_1h| per million dollars traded (Amihud 2002). [log]';
COMMENT ON COLUMN features.hourly.market_return_1h IS 'Mean return_1h of the universe in the same bar. [log]';
COMMENT ON COLUMN features.hourly.market_return_7h IS 'Mean return_7h of the universe. [log]';
COMMENT ON COLUMN features.hourly.relative_return_7h IS 'return_7h minus market_return_7h. [log]';
COMMENT ON COLUMN features.hourly.breadth_1h IS 'Share of the universe that rose in the bar. [0…1]';
COMMENT ON COLUMN features.hourly.sentiment_score IS 'Mood of posts since the bar before, shrunk toward neutral when few. [-1…1]';
COMMENT ON COLUMN features.hourly.sentiment_score_7h IS 'The same over 7 bars. [-1…1]';
COMMENT ON COLUMN features.hourly.sentiment_momentum IS 'sentiment_score minus its mean over 35 bars. [-2…2]';
COMMENT ON COLUMN features.hourly.sentiment_confidence IS 'Mean confidence of those posts; 0 without any. [0…1]';
COMMENT ON COLUMN features.hourly.sentiment_disagreement IS '1 - |bullish - bearish| / (bullish + bearish); 0 without either. [0…1]';
COMMENT ON COLUMN features.hourly.mentions_log IS 'log(1 + mentions since the bar before). [log]';
COMMENT ON COLUMN features.hourly.mentions_attention IS 'mentions_log minus its mean over 70 bars. [log]';
COMMENT ON COLUMN features.hourly.hour_sin IS 'Hours from the session''s open to the bar''s end, on a circle of 24: the time of day, whatever daylight saving does. [-1…1]';
COMMENT ON COLUMN features.hourly.hour_cos IS 'The same, cosine. [-1…1]';
COMMENT ON COLUMN features.hourly.weekday_sin IS 'Day of the week on a circle. [-1…1]';
COMMENT ON COLUMN features.hourly.weekday_cos IS 'The same, cosine. [-1…1]';
COMMENT ON COLUMN features.hourly.month_sin IS 'Month on a circle. [-1…1]';
COMMENT ON COLUMN features.hourly.month_cos IS 'The same, cosine. [-1…1]';
COMMENT ON COLUMN features.hourly.session_progress IS 'How much of the session has passed at the bar''s end. [0…1]';
COMMENT ON COLUMN features.hourly.hours_since_previous_bar IS 'log(1 + hours between this bar''s start and the end of the bar before). [log hours]';
