-- 0013 universe
-- What:  ops.universe: a row for each stretch of time in which a ticker is followed, and from when on it counts.
-- Why:   tickers come and go while the pipeline runs, and what was issued before must be rebuilt with those who were there then.
-- Locks: none on existing tables.
-- Back:  DROP TABLE ops.universe; DELETE FROM ops.migrations WHERE name = '0013_universe.sql'; TFT_TICKERS then says again who is followed.

CREATE TABLE ops.universe (
    ticker      ops.ticker  NOT NULL,
    added_at    timestamptz NOT NULL,
    member_from timestamptz,
    removed_at  timestamptz,
    place       integer     NOT NULL CHECK (place > 0),
    noted_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (ticker, added_at),
    UNIQUE (place),
    CONSTRAINT universe_added_at_le_member_from CHECK (added_at <= member_from),
    CONSTRAINT universe_added_at_lt_removed_at CHECK (added_at < removed_at),
    CONSTRAINT universe_member_from_le_removed_at CHECK (member_from <= removed_at)
);
CREATE UNIQUE INDEX universe_once_at_a_time ON ops.universe (ticker) WHERE removed_at IS NULL;
COMMENT ON TABLE ops.universe IS 'Who is followed since when and until when. Nothing is deleted. Empty until the first change: then TFT_TICKERS, or all that the source offers.';
COMMENT ON COLUMN ops.universe.ticker IS 'Exchange ticker, upper case.';
COMMENT ON COLUMN ops.universe.added_at IS 'From when on its bars are fetched; 1900 for who was there before the first change. [UTC]';
COMMENT ON COLUMN ops.universe.member_from IS 'From when on it counts in the market''s means and is forecast: once its history is there. NULL: not yet. [UTC]';
COMMENT ON COLUMN ops.universe.removed_at IS 'From when on it is no longer fetched, does not count and is not forecast. NULL: it still is. [UTC]';
COMMENT ON COLUMN ops.universe.place IS 'Order in which tickers were named: where two companies share a name, the first one has it.';
COMMENT ON COLUMN ops.universe.noted_at IS 'When the row was first written, by the server''s clock. [UTC]';
