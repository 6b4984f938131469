-- 0015 restatements
-- What:  ops.restatements: a row for each slice and ticker of which the source says otherwise than is held, and whether that was settled.
-- Why:   the hourly refresh looks some days back; the schedule reads here which of those days it has to ask for again.
-- Locks: none on existing tables.
-- Back:  DROP TABLE ops.restatements; DELETE FROM ops.migrations WHERE name = '0015_restatements.sql';

CREATE TABLE ops.restatements (
    table_name     text COLLATE "C" NOT NULL,
    slice_day      date             NOT NULL,
    ticker         text COLLATE "C" NOT NULL,
    kind           text             NOT NULL CHECK (kind IN ('restated', 'rescaled')),
    reason         text             NOT NULL,
    row_count      bigint           NOT NULL CHECK (row_count > 0),
    source         text             NOT NULL,
    run_id         text             NOT NULL,
    times          bigint           NOT NULL DEFAULT 1 CHECK (times > 0),
    first_noted_at timestamptz      NOT NULL,
    noted_at       timestamptz      NOT NULL,
    resolved_at    timestamptz,
    resolved_by    text,
    PRIMARY KEY (table_name, slice_day, ticker),
    CHECK (first_noted_at <= noted_at),
    CHECK ((resolved_at IS NULL) = (resolved_by IS NULL))
);
CREATE INDEX ON ops.restatements (slice_day) WHERE resolved_at IS NULL; -- what every look at the clock asks
COMMENT ON TABLE ops.restatements IS 'Slices of which a source said otherwise, later, than it had: by ticker, and whether that was settled.';
COMMENT ON COLUMN ops.restatements.table_name IS 'schema.table';
COMMENT ON COLUMN ops.restatements.slice_day IS 'UTC day of the slice.';
COMMENT ON COLUMN ops.restatements.ticker IS 'Whose rows differ.';
COMMENT ON COLUMN ops.restatements.kind IS 'restated: the day is asked for again. rescaled: all prices differ by one ratio, and the rows are left as they were.';
COMMENT ON COLUMN ops.restatements.reason IS 'A sentence.';
COMMENT ON COLUMN ops.restatements.row_count IS 'Rows that differed when it was last noted. [rows]';
COMMENT ON COLUMN ops.restatements.source IS 'Who said it.';
COMMENT ON COLUMN ops.restatements.run_id IS 'Run that noted it last.';
COMMENT ON COLUMN ops.restatements.times IS 'How often it was noted anew after it had been settled, and once more. [times]';
COMMENT ON COLUMN ops.restatements.first_noted_at IS 'When a difference was noted first. [UTC]';
COMMENT ON COLUMN ops.restatements.noted_at IS 'When the one that is open, or was settled last, was noted. [UTC]';
COMMENT ON COLUMN ops.restatements.resolved_at IS 'When the slice was written since, or nothing differed any more; null: it is still open. [UTC]';
COMMENT ON COLUMN ops.restatements.resolved_by IS 'Run that settled it.';
