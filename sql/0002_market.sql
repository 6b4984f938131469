-- 0002 market
-- What:  market.bars, market.actions with their revisions, market.quality.
-- Why:   prices as traded are the root of everything; a correction moves the old version aside, so that any past moment can be rebuilt.
-- Locks: none on existing tables.
-- Back:  DROP SCHEMA market CASCADE; DELETE FROM ops.migrations WHERE name = '0002_market.sql';

CREATE SCHEMA market;

CREATE TABLE market.bars (
    ticker        ops.ticker  NOT NULL,
    bar_start     timestamptz NOT NULL,
    bar_end       timestamptz NOT NULL,
    open          ops.finite  NOT NULL CHECK (open >= 1e-9),
    high          ops.finite  NOT NULL CHECK (high >= 1e-9),
    low           ops.finite  NOT NULL CHECK (low >= 1e-9),
    close         ops.finite  NOT NULL CHECK (close >= 1e-9),
    volume        ops.finite  NOT NULL CHECK (volume >= 0),
    source        text        NOT NULL,
    known_at      timestamptz NOT NULL,
    typical_price double precision NOT NULL GENERATED ALWAYS AS ((high + low + close) / 3) STORED,
    loaded_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (ticker, bar_start),
    CONSTRAINT bars_low_le_high CHECK (low <= high),
    CONSTRAINT bars_low_le_open CHECK (low <= open),
    CONSTRAINT bars_low_le_close CHECK (low <= close),
    CONSTRAINT bars_open_le_high CHECK (open <= high),
    CONSTRAINT bars_close_le_high CHECK (close <= high),
    CONSTRAINT bars_bar_start_le_bar_end CHECK (bar_start <= bar_end)
) PARTITION BY RANGE (bar_start);
CREATE INDEX ON market.bars (ticker, bar_start DESC);
CREATE INDEX ON market.bars USING brin (bar_start) WITH (pages_per_range = 16);
COMMENT ON TABLE market.bars IS 'Hourly prices as traded; splits and dividends lie beside them in market.actions.';
COMMENT ON COLUMN market.bars.ticker IS 'Exchange ticker, upper case.';
COMMENT ON COLUMN market.bars.bar_start IS 'First moment of the bar. [UTC]';
COMMENT ON COLUMN market.bars.bar_end IS 'First moment after the bar. [UTC]';
COMMENT ON COLUMN market.bars.open IS 'First trade of the bar. [USD a share]';
COMMENT ON COLUMN market.bars.high IS 'Highest trade. [USD a share]';
COMMENT ON COLUMN market.bars.low IS 'Lowest trade. [USD a share]';
COMMENT ON COLUMN market.bars.close IS 'Last trade. [USD a share]';
COMMENT ON COLUMN market.bars.volume IS 'Shares traded. [shares]';
COMMENT ON COLUMN market.bars.source IS 'Where the bar came from: files, simulated, yahoo …';
COMMENT ON COLUMN market.bars.known_at IS 'When this value was first held. [UTC]';
COMMENT ON COLUMN market.bars.typical_price IS '(high + low + close) / 3 [USD a share]';
COMMENT ON COLUMN market.bars.loaded_at IS 'When this version was written here. [UTC]';

CREATE TABLE market.bars_revisions (
    LIKE market.bars INCLUDING COMMENTS INCLUDING CONSTRAINTS INCLUDING GENERATED,
    replaced_at timestamptz NOT NULL,
    PRIMARY KEY (ticker, bar_start, loaded_at),
    CONSTRAINT bars_revisions_known_at_le_replaced_at CHECK (known_at <= replaced_at)
) PARTITION BY RANGE (bar_start);
COMMENT ON TABLE market.bars_revisions IS 'Versions of market.bars that were corrected later: each held from known_at until replaced_at.';
COMMENT ON COLUMN market.bars_revisions.replaced_at IS 'When the next version was known; where its source claims no later known_at, when it was written. [UTC]';

CREATE TABLE market.actions (
    ticker       ops.ticker       NOT NULL,
    effective_at timestamptz      NOT NULL,
    kind         text COLLATE "C" NOT NULL CHECK (kind IN ('split', 'dividend')),
    value        ops.finite       NOT NULL CHECK (value >= 1e-9),
    source       text             NOT NULL,
    known_at     timestamptz      NOT NULL,
    loaded_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (ticker, effective_at, kind)
) PARTITION BY RANGE (effective_at);
CREATE INDEX ON market.actions (ticker, effective_at DESC);
COMMENT ON TABLE market.actions IS 'Corporate actions by the first bar that trades under them.';
COMMENT ON COLUMN market.actions.ticker IS 'Exchange ticker, upper case.';
COMMENT ON COLUMN market.actions.effective_at IS 'Start of the first bar that trades under the action. [UTC]';
COMMENT ON COLUMN market.actions.kind IS 'split (new shares per old) or dividend (USD a share).';
COMMENT ON COLUMN market.actions.value IS 'New shares per old, or dollars per share. [ratio or USD a share]';
COMMENT ON COLUMN market.actions.source IS 'Where the action came from.';
COMMENT ON COLUMN market.actions.known_at IS 'When this value was first held. [UTC]';
COMMENT ON COLUMN market.actions.loaded_at IS 'When this version was written here. [UTC]';

CREATE TABLE market.actions_revisions (
    LIKE market.actions INCLUDING COMMENTS INCLUDING CONSTRAINTS INCLUDING GENERATED,
    replaced_at timestamptz NOT NULL,
    PRIMARY KEY (ticker, effective_at, kind, loaded_at),
    CONSTRAINT actions_revisions_known_at_le_replaced_at CHECK (known_at <= replaced_at)
) PARTITION BY RANGE (effective_at);
COMMENT ON TABLE market.actions_revisions IS 'Versions of market.actions that were corrected later: each held from known_at until replaced_at.';
COMMENT ON COLUMN market.actions_revisions.replaced_at IS 'When the next version was known; where its source claims no later known_at, when it was written. [UTC]';

CREATE TABLE market.quality (
    ticker           ops.ticker  NOT NULL,
    day_start        timestamptz NOT NULL,
    score            ops.finite  NOT NULL CHECK (score BETWEEN 0 AND 1),
    bars             bigint      NOT NULL CHECK (bars >= 0),
    expected_bars    bigint      NOT NULL CHECK (expected_bars >= 0),
    missing_bars     bigint      NOT NULL CHECK (missing_bars >= 0),
    quarantined_bars bigint      NOT NULL CHECK (quarantined_bars >= 0),
    stale_bars       bigint      NOT NULL CHECK (stale_bars >= 0),
    zero_volume_bars bigint      NOT NULL CHECK (zero_volume_bars >= 0),
    outlier_bars     bigint      NOT NULL CHECK (outlier_bars >= 0),
    PRIMARY KEY (ticker, day_start)
) PARTITION BY RANGE (day_start);
CREATE INDEX ON market.quality (ticker, day_start DESC);
CREATE INDEX ON market.quality (day_start DESC, ticker) WHERE score < 0.8; -- what is warned about
COMMENT ON TABLE market.quality IS 'How far a ticker''s day can be trusted, and which rules spoke against it.';
COMMENT ON COLUMN market.quality.ticker IS 'Exchange ticker, upper case.';
COMMENT ON COLUMN market.quality.day_start IS 'Midnight that begins the day. [UTC]';
COMMENT ON COLUMN market.quality.score IS '1 is faultless; below 0.8 a warning is shown. [0…1]';
COMMENT ON COLUMN market.quality.bars IS 'Bars held. [bars]';
COMMENT ON COLUMN market.quality.expected_bars IS 'Bars that the calendar asks for. [bars]';
COMMENT ON COLUMN market.quality.missing_bars IS 'Expected bars that are not held. [bars]';
COMMENT ON COLUMN market.quality.quarantined_bars IS 'Bars refused, with a reason each in ops.quarantine. [bars]';
COMMENT ON COLUMN market.quality.stale_bars IS 'Bars whose four prices repeat the bar before. [bars]';
COMMENT ON COLUMN market.quality.zero_volume_bars IS 'Bars without a trade. [bars]';
COMMENT ON COLUMN market.quality.outlier_bars IS 'Bars that jump beyond what their volatility allows, with no action to explain it. [bars]';
