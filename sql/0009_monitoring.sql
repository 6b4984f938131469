-- 0009 monitoring
-- What:  monitoring.drift: whether recent features and errors still look like those the model was trained on.
-- Why:   the sensor that asks for retraining reads rows, not the orchestrator's events.
-- Locks: none on existing tables.
-- Back:  DROP SCHEMA monitoring CASCADE; DELETE FROM ops.migrations WHERE name = '0009_monitoring.sql';

CREATE SCHEMA monitoring;

CREATE TABLE monitoring.drift (
    subject        text COLLATE "C" NOT NULL,
    day_start      timestamptz      NOT NULL,
    model_id       text             NOT NULL,
    statistic      ops.finite       NOT NULL,
    threshold      ops.finite       NOT NULL CHECK (threshold >= 0),
    drifted        boolean          NOT NULL,
    reference_rows bigint           NOT NULL CHECK (reference_rows >= 0),
    recent_rows    bigint           NOT NULL CHECK (recent_rows >= 0),
    PRIMARY KEY (subject, day_start)
) PARTITION BY RANGE (day_start);
CREATE INDEX ON monitoring.drift (day_start DESC, subject) WHERE drifted; -- what asks for retraining
COMMENT ON TABLE monitoring.drift IS 'Whether recent features, or forecast errors, still look like those the model was trained on.';
COMMENT ON COLUMN monitoring.drift.subject IS 'A feature''s name, or `coverage`, `skill`.';
COMMENT ON COLUMN monitoring.drift.day_start IS 'Midnight that begins the day. [UTC]';
COMMENT ON COLUMN monitoring.drift.model_id IS 'The model or baseline that said it.';
COMMENT ON COLUMN monitoring.drift.statistic IS 'Distance between reference and recent.';
COMMENT ON COLUMN monitoring.drift.threshold IS 'Above it the subject has drifted.';
COMMENT ON COLUMN monitoring.drift.drifted IS 'statistic > threshold.';
COMMENT ON COLUMN monitoring.drift.reference_rows IS 'Rows of the reference. [rows]';
COMMENT ON COLUMN monitoring.drift.recent_rows IS 'Recent rows. [rows]';
