-- 0007 signals
-- What:  signals.decisions: BUY, SELL or HOLD per ticker and bar, with the reason.
-- Why:   the portfolio trades on them, and people ask why.
-- Locks: none on existing tables.
-- Back:  DROP SCHEMA signals CASCADE; DELETE FROM ops.migrations WHERE name = '0007_signals.sql';

CREATE SCHEMA signals;

CREATE TABLE signals.decisions (
    ticker        ops.ticker  NOT NULL,
    issued_at     timestamptz NOT NULL,
    model_id      text        NOT NULL,
    action        text        NOT NULL CHECK (action IN ('BUY', 'SELL', 'HOLD')),
    confidence    ops.finite  NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    weight        ops.finite  NOT NULL CHECK (weight BETWEEN -1 AND 1),
    reason        text        NOT NULL,
    horizon_hours bigint      NOT NULL CHECK (horizon_hours BETWEEN 1 AND 24),
    p10           ops.finite  NOT NULL,
    p50           ops.finite  NOT NULL,
    p90           ops.finite  NOT NULL,
    PRIMARY KEY (ticker, issued_at),
    CONSTRAINT decisions_p10_le_p50 CHECK (p10 <= p50),
    CONSTRAINT decisions_p50_le_p90 CHECK (p50 <= p90)
) PARTITION BY RANGE (issued_at);
CREATE INDEX ON signals.decisions (ticker, issued_at DESC);
CREATE INDEX ON signals.decisions (issued_at DESC, ticker) WHERE action <> 'HOLD'; -- what is to be done
COMMENT ON TABLE signals.decisions IS 'What to do about each ticker at the end of each bar, and why.';
COMMENT ON COLUMN signals.decisions.ticker IS 'Exchange ticker, upper case.';
COMMENT ON COLUMN signals.decisions.issued_at IS 'End of the newest bar that the row knows. [UTC]';
COMMENT ON COLUMN signals.decisions.model_id IS 'The model or baseline that said it.';
COMMENT ON COLUMN signals.decisions.action IS 'What to do.';
COMMENT ON COLUMN signals.decisions.confidence IS 'How sure the forecast is of the direction. [0…1]';
COMMENT ON COLUMN signals.decisions.weight IS 'Signed target weight. [share of equity]';
COMMENT ON COLUMN signals.decisions.reason IS 'A sentence with figures.';
COMMENT ON COLUMN signals.decisions.horizon_hours IS 'Bars ahead. [trading hours]';
COMMENT ON COLUMN signals.decisions.p10 IS 'Of the horizon decided on. [log return]';
COMMENT ON COLUMN signals.decisions.p50 IS 'Of the horizon decided on. [log return]';
COMMENT ON COLUMN signals.decisions.p90 IS 'Of the horizon decided on. [log return]';
