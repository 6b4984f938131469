-- 0012 issues
-- What:  forecasts.issues with its revisions: a row per (model_id, issued_at), with a hash of the features and one of the forecasts.
-- Why:   derived tables hold what is right now; this one holds what was issued then, so that `replay` has something to be equal to.
-- Locks: none on existing tables.
-- Back:  DROP TABLE forecasts.issues, forecasts.issues_revisions; DELETE FROM ops.migrations WHERE name = '0012_issues.sql';

CREATE TABLE forecasts.issues (
    model_id      text COLLATE "C" NOT NULL,
    issued_at     timestamptz      NOT NULL,
    known_at      timestamptz      NOT NULL,
    features_hash text             NOT NULL,
    forecast_hash text             NOT NULL,
    tickers       bigint           NOT NULL CHECK (tickers >= 0),
    code_version  text             NOT NULL,
    loaded_at     timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (model_id, issued_at),
    CONSTRAINT issues_issued_at_le_known_at CHECK (issued_at <= known_at)
) PARTITION BY RANGE (issued_at);
CREATE INDEX ON forecasts.issues (issued_at DESC);
COMMENT ON TABLE forecasts.issues IS 'What each model issued at the end of each bar, by hash: `replay` rebuilds it and compares (docs/decisions/0007).';
COMMENT ON COLUMN forecasts.issues.model_id IS 'The model or baseline that said it.';
COMMENT ON COLUMN forecasts.issues.issued_at IS 'End of the newest bar that the row knows. [UTC]';
COMMENT ON COLUMN forecasts.issues.known_at IS 'When it could first be said: as of this moment its inputs are read again. [UTC]';
COMMENT ON COLUMN forecasts.issues.features_hash IS 'SHA-256 of the features of all tickers whose bar ended at issued_at, hex.';
COMMENT ON COLUMN forecasts.issues.forecast_hash IS 'SHA-256 of the quantiles that the model issued at issued_at, hex.';
COMMENT ON COLUMN forecasts.issues.tickers IS 'Tickers that were forecast. [tickers]';
COMMENT ON COLUMN forecasts.issues.code_version IS 'Version of this package that issued it first.';
COMMENT ON COLUMN forecasts.issues.loaded_at IS 'When this version was written here. [UTC]';

CREATE TABLE forecasts.issues_revisions (
    LIKE forecasts.issues INCLUDING COMMENTS INCLUDING CONSTRAINTS INCLUDING GENERATED,
    replaced_at timestamptz NOT NULL,
    PRIMARY KEY (model_id, issued_at, loaded_at),
    CONSTRAINT issues_revisions_known_at_le_replaced_at CHECK (known_at <= replaced_at)
) PARTITION BY RANGE (issued_at);
COMMENT ON TABLE forecasts.issues_revisions IS 'Versions of forecasts.issues that were issued anew later: each held from known_at until replaced_at.';
COMMENT ON COLUMN forecasts.issues_revisions.replaced_at IS 'When the next version was known; where its inputs claim no later known_at, when it was written. [UTC]';
