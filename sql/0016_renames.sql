-- 0016 renames
-- What:  market.actions takes kind 'rename', with the ticker's former name in a column of its own; its revisions as well.
-- Why:   a company that changes its symbol keeps its history; the bars of the former ticker go on as the new one's, on read.
-- Locks: ACCESS EXCLUSIVE on market.actions and its revisions while each row's kind is read once: a few rows a ticker and year.
-- Back:  DELETE FROM market.actions WHERE kind = 'rename'; DELETE FROM market.actions_revisions WHERE kind = 'rename'; for both tables
--        DROP COLUMN former, and the CHECK on kind as it was in 0002; DELETE FROM ops.migrations WHERE name = '0016_renames.sql';

ALTER TABLE market.actions
    ADD COLUMN former ops.ticker,
    DROP CONSTRAINT actions_kind_check,
    ADD CONSTRAINT actions_kind_check CHECK (kind IN ('split', 'dividend', 'rename'));
ALTER TABLE market.actions_revisions
    ADD COLUMN former ops.ticker,
    DROP CONSTRAINT actions_kind_check,
    ADD CONSTRAINT actions_kind_check CHECK (kind IN ('split', 'dividend', 'rename'));
COMMENT ON COLUMN market.actions.kind IS 'split (new shares per old), dividend (USD a share) or rename (value is 1).';
COMMENT ON COLUMN market.actions_revisions.kind IS 'split (new shares per old), dividend (USD a share) or rename (value is 1).';
COMMENT ON COLUMN market.actions.former IS 'Of a rename: the ticker under which the same share traded before.';
COMMENT ON COLUMN market.actions_revisions.former IS 'Of a rename: the ticker under which the same share traded before.';
