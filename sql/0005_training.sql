-- 0005 training
-- What:  training.models: each trained model, whole.
-- Why:   a forecast names the model that made it, and that model must be found, checked and loaded for ever after.
-- Locks: none on existing tables.
-- Back:  DROP SCHEMA training CASCADE; DELETE FROM ops.migrations WHERE name = '0005_training.sql';

CREATE SCHEMA training;

CREATE TABLE training.models (
    model_id         text COLLATE "C" NOT NULL,
    trained_as_of    timestamptz      NOT NULL,
    fitted_at        timestamptz      NOT NULL,
    config           jsonb            NOT NULL,
    metrics          jsonb            NOT NULL,
    data_fingerprint text             NOT NULL,
    code_version     text             NOT NULL,
    sha256           text             NOT NULL,
    artifact         bytea            NOT NULL,
    PRIMARY KEY (model_id, trained_as_of)
) PARTITION BY RANGE (trained_as_of);
CREATE INDEX ON training.models (trained_as_of DESC);
ALTER TABLE training.models ALTER COLUMN artifact SET STORAGE EXTERNAL; -- a zip: compressing it again only costs time
COMMENT ON TABLE training.models IS 'Trained models, whole: weights, configuration, scalers, what they were trained on and how they did.';
COMMENT ON COLUMN training.models.model_id IS 'The model or baseline that said it.';
COMMENT ON COLUMN training.models.trained_as_of IS 'Nothing later than this was known to the fit. [UTC]';
COMMENT ON COLUMN training.models.fitted_at IS 'When the fit ended: of models as of one moment, the newest serves. [UTC]';
COMMENT ON COLUMN training.models.config IS 'Architecture, variables, training settings, seed.';
COMMENT ON COLUMN training.models.metrics IS 'Losses by epoch, validation skill, seconds, device.';
COMMENT ON COLUMN training.models.data_fingerprint IS 'SHA-256 of the training frame.';
COMMENT ON COLUMN training.models.code_version IS 'Version of this package that trained it.';
COMMENT ON COLUMN training.models.sha256 IS 'Of the artifact.';
COMMENT ON COLUMN training.models.artifact IS 'safetensors weights and JSON in one zip; nothing pickled.';
