-- 0006 forecasts
-- What:  forecasts.quantiles and forecasts.scores.
-- Why:   signals and the service read forecasts by the moment they were issued; scores say on the day a bar closes what became of them.
-- Locks: none on existing tables.
-- Back:  DROP SCHEMA forecasts CASCADE; DELETE FROM ops.migrations WHERE name = '0006_forecasts.sql';

CREATE SCHEMA forecasts;

CREATE TABLE forecasts.quantiles (
    model_id      text COLLATE "C" NOT NULL,
    ticker        ops.ticker       NOT NULL,
    issued_at     timestamptz      NOT NULL,
    horizon_hours bigint           NOT NULL CHECK (horizon_hours BETWEEN 1 AND 24),
    target_at     timestamptz      NOT NULL,
    p10           ops.finite       NOT NULL,
    p50           ops.finite       NOT NULL,
    p90           ops.finite       NOT NULL,
    PRIMARY KEY (model_id, ticker, issued_at, horizon_hours),
    CONSTRAINT quantiles_p10_le_p50 CHECK (p10 <= p50),
    CONSTRAINT quantiles_p50_le_p90 CHECK (p50 <= p90),
    CONSTRAINT quantiles_issued_at_le_target_at CHECK (issued_at <= target_at)
) PARTITION BY RANGE (issued_at);
CREATE INDEX ON forecasts.quantiles (ticker, issued_at DESC);
CREATE INDEX ON forecasts.quantiles USING brin (issued_at) WITH (pages_per_range = 16);
COMMENT ON TABLE forecasts.quantiles IS 'P10, P50 and P90 of the log return from the forecast''s moment to each bar ahead, by model and by baseline.';
COMMENT ON COLUMN forecasts.quantiles.model_id IS 'The model or baseline that said it.';
COMMENT ON COLUMN forecasts.quantiles.ticker IS 'Exchange ticker, upper case.';
COMMENT ON COLUMN forecasts.quantiles.issued_at IS 'End of the newest bar that the row knows. [UTC]';
COMMENT ON COLUMN forecasts.quantiles.horizon_hours IS 'Bars ahead. [trading hours]';
COMMENT ON COLUMN forecasts.quantiles.target_at IS 'End of the bar forecast, by the trading calendar. [UTC]';
COMMENT ON COLUMN forecasts.quantiles.p10 IS 'One in ten falls below. [log return]';
COMMENT ON COLUMN forecasts.quantiles.p50 IS 'Half fall below. [log return]';
COMMENT ON COLUMN forecasts.quantiles.p90 IS 'One in ten lies above. [log return]';

CREATE TABLE forecasts.scores (
    model_id      text COLLATE "C" NOT NULL,
    ticker        ops.ticker       NOT NULL,
    issued_at     timestamptz      NOT NULL,
    horizon_hours bigint           NOT NULL CHECK (horizon_hours BETWEEN 1 AND 24),
    matured_at    timestamptz      NOT NULL,
    actual        ops.finite       NOT NULL,
    error         ops.finite       NOT NULL,
    pinball       ops.finite       NOT NULL CHECK (pinball >= 0),
    covered       boolean          NOT NULL,
    PRIMARY KEY (model_id, ticker, issued_at, horizon_hours, matured_at)
) PARTITION BY RANGE (matured_at);
CREATE INDEX ON forecasts.scores (ticker, matured_at DESC);
CREATE INDEX ON forecasts.scores USING brin (matured_at) WITH (pages_per_range = 16);
COMMENT ON TABLE forecasts.scores IS 'What became of each forecast, on the day its bar closed.';
COMMENT ON COLUMN forecasts.scores.model_id IS 'The model or baseline that said it.';
COMMENT ON COLUMN forecasts.scores.ticker IS 'Exchange ticker, upper case.';
COMMENT ON COLUMN forecasts.scores.issued_at IS 'End of the newest bar that the row knows. [UTC]';
COMMENT ON COLUMN forecasts.scores.horizon_hours IS 'Bars ahead. [trading hours]';
COMMENT ON COLUMN forecasts.scores.matured_at IS 'End of the bar that decided it. [UTC]';
COMMENT ON COLUMN forecasts.scores.actual IS 'What happened. [log return]';
COMMENT ON COLUMN forecasts.scores.error IS 'p50 - actual. [log return]';
COMMENT ON COLUMN forecasts.scores.pinball IS 'Mean pinball loss of the three quantiles (Koenker, Bassett 1978). [log return]';
COMMENT ON COLUMN forecasts.scores.covered IS 'Whether the return fell between P10 and P90.';
