-- 0014 coverage
-- What:  sentiment.coverage with its revisions: a row per (channel, kind, hour_start) with the minutes of the hour that were surely read.
-- Why:   an hour without posts may be a quiet one, or one that nobody could read: Reddit's listings end after about a thousand.
-- Locks: none on existing tables.
-- Back:  DROP TABLE sentiment.coverage, sentiment.coverage_revisions; DELETE FROM ops.slices WHERE table_name = 'sentiment.coverage';
--        DELETE FROM ops.migrations WHERE name = '0014_coverage.sql';

CREATE TABLE sentiment.coverage (
    channel    text COLLATE "C" NOT NULL,
    kind       text COLLATE "C" NOT NULL CHECK (kind IN ('submissions', 'comments', 'posts')),
    hour_start timestamptz      NOT NULL,
    minutes    bigint           NOT NULL CHECK (minutes BETWEEN 0 AND 1152921504606846975),
    source     text             NOT NULL,
    known_at   timestamptz      NOT NULL,
    share      double precision NOT NULL GENERATED ALWAYS AS (bit_count(minutes::bit(60))::double precision / 60) STORED,
    loaded_at  timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (channel, kind, hour_start)
) PARTITION BY RANGE (hour_start);
CREATE INDEX ON sentiment.coverage (hour_start DESC);
COMMENT ON TABLE sentiment.coverage IS 'How much of each hour was surely read, of each channel and kind of post that was asked for. What was read once stays so.';
COMMENT ON COLUMN sentiment.coverage.channel IS 'Subreddit in lower case; the source''s name where it is read whole.';
COMMENT ON COLUMN sentiment.coverage.kind IS 'submissions or comments of a subreddit; posts where a source is read whole.';
COMMENT ON COLUMN sentiment.coverage.hour_start IS 'First moment of the clock hour. [UTC]';
COMMENT ON COLUMN sentiment.coverage.minutes IS 'Bit n (worth 2^n) stands for minute n of the hour: set where nothing of the minute is missing. [60 bits]';
COMMENT ON COLUMN sentiment.coverage.source IS 'Where the posts came from.';
COMMENT ON COLUMN sentiment.coverage.known_at IS 'When this value was first held. [UTC]';
COMMENT ON COLUMN sentiment.coverage.share IS 'Share of the hour that is covered: 0 where it was asked for in vain. [0…1]';
COMMENT ON COLUMN sentiment.coverage.loaded_at IS 'When this version was written here. [UTC]';

CREATE TABLE sentiment.coverage_revisions (
    LIKE sentiment.coverage INCLUDING COMMENTS INCLUDING CONSTRAINTS INCLUDING GENERATED,
    replaced_at timestamptz NOT NULL,
    PRIMARY KEY (channel, kind, hour_start, loaded_at),
    CONSTRAINT coverage_revisions_known_at_le_replaced_at CHECK (known_at <= replaced_at)
) PARTITION BY RANGE (hour_start);
COMMENT ON TABLE sentiment.coverage_revisions IS 'Versions of sentiment.coverage to which more was added later: each held from known_at until replaced_at.';
COMMENT ON COLUMN sentiment.coverage_revisions.replaced_at IS 'When the next version was known; where its source claims no later known_at, when it was written. [UTC]';

-- What was read before is not read again for this: of those days nothing is known, and nothing is asked.
INSERT INTO ops.slices (table_name, slice_day, generation, run_id, code_version, row_count, content_hash, reaches_to, written_rows, committed_at)
SELECT 'sentiment.coverage', slice_day, generation, run_id, code_version, 0, encode(sha256(''), 'hex'), reaches_to, 0, committed_at
FROM ops.slices WHERE table_name = 'sentiment.posts';
