-- 0001 ops
-- What:  ops.migrations, slices, fences, quarantine, worlds, and the domains that every stage uses.
-- Why:   the pipeline keeps its own books: what was applied, written, refused, by whom, and from which world the data come.
-- Locks: none on existing tables.
-- Back:  DROP SCHEMA ops CASCADE (all other schemas depend on its domains: drop those first).

CREATE SCHEMA ops;

-- double precision takes NaN and Infinity without a word. NaN sorts above Infinity, so this refuses all three.
CREATE DOMAIN ops.finite AS double precision
    CONSTRAINT finite CHECK (VALUE > '-Infinity' AND VALUE < 'Infinity');
COMMENT ON DOMAIN ops.finite IS 'A number: neither NaN nor infinite.';

CREATE DOMAIN ops.ticker AS text COLLATE "C"
    CONSTRAINT ticker CHECK (VALUE ~ '^[A-Z][A-Z0-9]{0,9}([.\-][A-Z0-9]{1,4})?$');
COMMENT ON DOMAIN ops.ticker IS 'Exchange ticker, upper case.';

CREATE TABLE ops.migrations (
    name       text COLLATE "C" PRIMARY KEY,
    sha256     text             NOT NULL,
    applied_at timestamptz      NOT NULL DEFAULT now()
);
COMMENT ON TABLE ops.migrations IS 'Which files of sql/ this database has seen. Each row was committed with its file.';
COMMENT ON COLUMN ops.migrations.name IS 'File name.';
COMMENT ON COLUMN ops.migrations.sha256 IS 'Of the file as it was applied, hex.';
COMMENT ON COLUMN ops.migrations.applied_at IS 'When. [UTC]';

CREATE TABLE ops.worlds (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
    world      text        NOT NULL,
    simulated  boolean     NOT NULL,
    market     text        NOT NULL,
    posts      text        NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ops.worlds IS 'The one world whose data this database holds: simulated and real data never mix.';
COMMENT ON COLUMN ops.worlds.one IS 'Always true: there is one row.';
COMMENT ON COLUMN ops.worlds.world IS 'Name of the data set.';
COMMENT ON COLUMN ops.worlds.simulated IS 'Whether it is made up.';
COMMENT ON COLUMN ops.worlds.market IS 'Where bars come from.';
COMMENT ON COLUMN ops.worlds.posts IS 'Where posts come from.';
COMMENT ON COLUMN ops.worlds.claimed_at IS 'When its first data came. [UTC]';

CREATE SEQUENCE ops.generations;
COMMENT ON SEQUENCE ops.generations IS 'A number for each writer: the later writer of a slice has the higher one.';

CREATE TABLE ops.fences (
    table_name text COLLATE "C" NOT NULL,
    slice_day  date             NOT NULL,
    generation bigint           NOT NULL,
    PRIMARY KEY (table_name, slice_day)
) WITH (fillfactor = 50); -- updated in place at every run
COMMENT ON TABLE ops.fences IS 'Who may write a slice: a writer with a lower generation is refused, however long it lived on.';
COMMENT ON COLUMN ops.fences.table_name IS 'schema.table';
COMMENT ON COLUMN ops.fences.slice_day IS 'UTC day of the slice.';
COMMENT ON COLUMN ops.fences.generation IS 'Of the last writer that announced itself.';

CREATE TABLE ops.slices (
    table_name   text COLLATE "C" NOT NULL,
    slice_day    date             NOT NULL,
    generation   bigint           NOT NULL,
    run_id       text             NOT NULL,
    code_version text             NOT NULL,
    row_count    bigint           NOT NULL CHECK (row_count >= 0),
    content_hash text             NOT NULL,
    reaches_to   timestamptz      NOT NULL,
    written_rows bigint           NOT NULL CHECK (written_rows >= 0),
    committed_at timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, slice_day)
);
COMMENT ON TABLE ops.slices IS 'The ledger: a row for each slice, committed with its rows. An empty slice has a row, a missing one has none.';
COMMENT ON COLUMN ops.slices.table_name IS 'schema.table';
COMMENT ON COLUMN ops.slices.slice_day IS 'UTC day of the slice.';
COMMENT ON COLUMN ops.slices.generation IS 'Of the writer that changed it last.';
COMMENT ON COLUMN ops.slices.run_id IS 'Run that changed it last.';
COMMENT ON COLUMN ops.slices.code_version IS 'Version of this package that changed it last.';
COMMENT ON COLUMN ops.slices.row_count IS 'Rows that it holds. [rows]';
COMMENT ON COLUMN ops.slices.content_hash IS 'SHA-256 over its rows in key order, loading times left out, hex.';
COMMENT ON COLUMN ops.slices.reaches_to IS 'How far into the day it reaches; the next midnight where it is complete. [UTC]';
COMMENT ON COLUMN ops.slices.written_rows IS 'Rows inserted, updated or deleted when it last changed. [rows]';
COMMENT ON COLUMN ops.slices.committed_at IS 'Begin of the transaction that changed it last. [UTC]';

CREATE TABLE ops.quarantine (
    table_name  text COLLATE "C" NOT NULL,
    slice_day   date             NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    ticker      text COLLATE "C",
    reason      text             NOT NULL,
    row         jsonb            NOT NULL,
    run_id      text             NOT NULL,
    seen_at     timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, slice_day, fingerprint)
) PARTITION BY RANGE (slice_day);
CREATE INDEX ON ops.quarantine (ticker, slice_day DESC) WHERE ticker IS NOT NULL;
COMMENT ON TABLE ops.quarantine IS 'Rows that were refused, each with the reason: nothing is dropped in silence.';
COMMENT ON COLUMN ops.quarantine.table_name IS 'schema.table that it was meant for.';
COMMENT ON COLUMN ops.quarantine.slice_day IS 'UTC day of the slice.';
COMMENT ON COLUMN ops.quarantine.fingerprint IS 'Hash of ticker, reason and row, but for when it was read: the same refusal is kept once.';
COMMENT ON COLUMN ops.quarantine.ticker IS 'As it was given, where it was.';
COMMENT ON COLUMN ops.quarantine.reason IS 'A sentence.';
COMMENT ON COLUMN ops.quarantine.row IS 'The row as it came.';
COMMENT ON COLUMN ops.quarantine.run_id IS 'Run that refused it first.';
COMMENT ON COLUMN ops.quarantine.seen_at IS 'When it was refused first. [UTC]';
