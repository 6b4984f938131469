-- 0003 sentiment
-- What:  sentiment.posts with revisions, sentiment.mentions, sentiment.hourly, and sentiment.scores, the cache of what a scorer said.
-- Why:   from posts to the mood of an hour; scoring is the slow part, so each text is scored once a scorer.
-- Locks: none on existing tables.
-- Back:  DROP SCHEMA sentiment CASCADE; DELETE FROM ops.migrations WHERE name = '0003_sentiment.sql';

CREATE SCHEMA sentiment;

CREATE TABLE sentiment.posts (
    channel    text COLLATE "C" NOT NULL,
    post_id    text COLLATE "C" NOT NULL,
    created_at timestamptz      NOT NULL,
    text       text             NOT NULL,
    score      bigint           NOT NULL,
    text_hash  text             NOT NULL,
    source     text             NOT NULL,
    known_at   timestamptz      NOT NULL,
    loaded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (channel, post_id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX ON sentiment.posts USING brin (created_at) WITH (pages_per_range = 16);
COMMENT ON TABLE sentiment.posts IS 'Social posts as they were read.';
COMMENT ON COLUMN sentiment.posts.channel IS 'Subreddit or data set.';
COMMENT ON COLUMN sentiment.posts.post_id IS 'The channel''s own id.';
COMMENT ON COLUMN sentiment.posts.created_at IS 'When it was posted. [UTC]';
COMMENT ON COLUMN sentiment.posts.text IS 'Title and body.';
COMMENT ON COLUMN sentiment.posts.score IS 'Up minus down when read. [votes]';
COMMENT ON COLUMN sentiment.posts.text_hash IS 'SHA-256 of the cleaned text, hex: the key of its cached score.';
COMMENT ON COLUMN sentiment.posts.source IS 'Where the post came from.';
COMMENT ON COLUMN sentiment.posts.known_at IS 'When this value was first held. [UTC]';
COMMENT ON COLUMN sentiment.posts.loaded_at IS 'When this version was written here. [UTC]';

CREATE TABLE sentiment.posts_revisions (
    LIKE sentiment.posts INCLUDING COMMENTS INCLUDING CONSTRAINTS INCLUDING GENERATED,
    replaced_at timestamptz NOT NULL,
    PRIMARY KEY (channel, post_id, created_at, loaded_at),
    CONSTRAINT posts_revisions_known_at_le_replaced_at CHECK (known_at <= replaced_at)
) PARTITION BY RANGE (created_at);
COMMENT ON TABLE sentiment.posts_revisions IS 'Versions of sentiment.posts that were corrected later: each held from known_at until replaced_at.';
COMMENT ON COLUMN sentiment.posts_revisions.replaced_at IS 'When the next version was known; where its source claims no later known_at, when it was written. [UTC]';

CREATE TABLE sentiment.mentions (
    channel    text COLLATE "C" NOT NULL,
    post_id    text COLLATE "C" NOT NULL,
    created_at timestamptz      NOT NULL,
    known_at   timestamptz      NOT NULL,
    ticker     ops.ticker       NOT NULL,
    method     text             NOT NULL CHECK (method IN ('cashtag', 'bare', 'name')),
    label      text             NOT NULL CHECK (label IN ('bearish', 'neutral', 'bullish')),
    bearish    ops.finite       NOT NULL CHECK (bearish BETWEEN 0 AND 1),
    neutral    ops.finite       NOT NULL CHECK (neutral BETWEEN 0 AND 1),
    bullish    ops.finite       NOT NULL CHECK (bullish BETWEEN 0 AND 1),
    confidence ops.finite       NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    scorer     text             NOT NULL,
    PRIMARY KEY (channel, post_id, created_at, ticker)
) PARTITION BY RANGE (created_at);
CREATE INDEX ON sentiment.mentions (ticker, created_at DESC);
CREATE INDEX ON sentiment.mentions USING brin (created_at) WITH (pages_per_range = 16);
COMMENT ON TABLE sentiment.mentions IS 'A post''s mood toward one ticker that it speaks of.';
COMMENT ON COLUMN sentiment.mentions.channel IS 'Subreddit or data set.';
COMMENT ON COLUMN sentiment.mentions.post_id IS 'The channel''s own id.';
COMMENT ON COLUMN sentiment.mentions.created_at IS 'When it was posted. [UTC]';
COMMENT ON COLUMN sentiment.mentions.known_at IS 'When this value was first held. [UTC]';
COMMENT ON COLUMN sentiment.mentions.ticker IS 'Exchange ticker, upper case.';
COMMENT ON COLUMN sentiment.mentions.method IS 'How the ticker was recognised.';
COMMENT ON COLUMN sentiment.mentions.label IS 'The likeliest mood.';
COMMENT ON COLUMN sentiment.mentions.bearish IS 'Probability of a bearish mood. [0…1]';
COMMENT ON COLUMN sentiment.mentions.neutral IS 'Probability of neither. [0…1]';
COMMENT ON COLUMN sentiment.mentions.bullish IS 'Probability of a bullish mood. [0…1]';
COMMENT ON COLUMN sentiment.mentions.confidence IS 'Probability of the label. [0…1]';
COMMENT ON COLUMN sentiment.mentions.scorer IS 'Id of the model that scored it.';

CREATE TABLE sentiment.hourly (
    ticker        ops.ticker  NOT NULL,
    hour_start    timestamptz NOT NULL,
    hour_end      timestamptz NOT NULL,
    bullish_count bigint      NOT NULL CHECK (bullish_count >= 0),
    bearish_count bigint      NOT NULL CHECK (bearish_count >= 0),
    neutral_count bigint      NOT NULL CHECK (neutral_count >= 0),
    momentum      ops.finite  NOT NULL,
    confidence    ops.finite  NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    total_count   bigint NOT NULL GENERATED ALWAYS AS (bullish_count + bearish_count + neutral_count) STORED,
    score         double precision NOT NULL GENERATED ALWAYS AS (
        CASE WHEN bullish_count + bearish_count + neutral_count = 0 THEN 0
             ELSE (bullish_count - bearish_count)::double precision / (bullish_count + bearish_count + neutral_count) END) STORED,
    PRIMARY KEY (ticker, hour_start),
    CONSTRAINT hourly_hour_start_le_hour_end CHECK (hour_start <= hour_end)
) PARTITION BY RANGE (hour_start);
CREATE INDEX ON sentiment.hourly (ticker, hour_start DESC);
COMMENT ON TABLE sentiment.hourly IS 'The mood toward a ticker in the posts that became known within the hour; hours without a mention have no row.';
COMMENT ON COLUMN sentiment.hourly.ticker IS 'Exchange ticker, upper case.';
COMMENT ON COLUMN sentiment.hourly.hour_start IS 'First moment of the clock hour. [UTC]';
COMMENT ON COLUMN sentiment.hourly.hour_end IS 'First moment after it: from then on the row may be used. [UTC]';
COMMENT ON COLUMN sentiment.hourly.bullish_count IS 'Mentions labelled bullish. [mentions]';
COMMENT ON COLUMN sentiment.hourly.bearish_count IS 'Mentions labelled bearish. [mentions]';
COMMENT ON COLUMN sentiment.hourly.neutral_count IS 'Mentions labelled neutral. [mentions]';
COMMENT ON COLUMN sentiment.hourly.momentum IS 'Score minus the mean score of the ticker''s preceding 24 hours that had mentions; 0 if none. [score]';
COMMENT ON COLUMN sentiment.hourly.confidence IS 'Mean confidence of the hour''s labels. [0…1]';
COMMENT ON COLUMN sentiment.hourly.total_count IS 'All mentions. [mentions]';
COMMENT ON COLUMN sentiment.hourly.score IS '(bullish - bearish) / total; 0 without mentions. [-1…1]';

-- Not partitioned and never pruned: it is read by hash, and a text has no day of its own.
CREATE TABLE sentiment.scores (
    text_hash text COLLATE "C" NOT NULL,
    scorer    text COLLATE "C" NOT NULL,
    bearish   ops.finite       NOT NULL CHECK (bearish BETWEEN 0 AND 1),
    neutral   ops.finite       NOT NULL CHECK (neutral BETWEEN 0 AND 1),
    bullish   ops.finite       NOT NULL CHECK (bullish BETWEEN 0 AND 1),
    scored_at timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (text_hash, scorer)
);
COMMENT ON TABLE sentiment.scores IS 'What each scorer said of each text: looked up before a text is scored again.';
COMMENT ON COLUMN sentiment.scores.text_hash IS 'SHA-256 of the cleaned text, hex.';
COMMENT ON COLUMN sentiment.scores.scorer IS 'Id of the model that scored it.';
COMMENT ON COLUMN sentiment.scores.bearish IS 'Probability of a bearish mood. [0…1]';
COMMENT ON COLUMN sentiment.scores.neutral IS 'Probability of neither. [0…1]';
COMMENT ON COLUMN sentiment.scores.bullish IS 'Probability of a bullish mood. [0…1]';
COMMENT ON COLUMN sentiment.scores.scored_at IS 'When it was scored. [UTC]';
