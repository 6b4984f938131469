-- 0011 roles
-- What:  roles tft_owner, tft_writer, tft_reader and their rights; ops.make_partition; schema retired with its record, ops.retired.
-- Why:   who only reads must not be able to write, who writes must not be able to alter; and months past retention need a place to lie.
-- Locks: ACCESS EXCLUSIVE for a moment on each table, not on its partitions: their owner changes (docs/decisions/0008).
-- Back:  DROP FUNCTION ops.apply_roles(), ops.make_partition(text, text, date); DROP TABLE ops.retired; REASSIGN OWNED BY tft_owner TO me;
--        DROP OWNED BY tft_writer, tft_reader; DELETE FROM ops.migrations WHERE name = '0011_roles.sql'; other databases may use the roles.

CREATE SCHEMA retired;
COMMENT ON SCHEMA retired IS 'Months past retention: detached from their tables, kept as they were. ops.retired says which and when.';

CREATE TABLE ops.retired (
    kept_as    text COLLATE "C" PRIMARY KEY,
    table_name text COLLATE "C" NOT NULL,
    month      date             NOT NULL CHECK (month = date_trunc('month', month::timestamp)),
    row_count  bigint           NOT NULL CHECK (row_count >= 0),
    ledger     jsonb            NOT NULL,
    retired_at timestamptz      NOT NULL DEFAULT now()
);
COMMENT ON TABLE ops.retired IS 'Which months lie in the schema retired, with the rows of ops.slices that left with them.';
COMMENT ON COLUMN ops.retired.kept_as IS 'schema.table under which it is kept.';
COMMENT ON COLUMN ops.retired.table_name IS 'schema.table that it was a partition of.';
COMMENT ON COLUMN ops.retired.month IS 'First day of its month, UTC.';
COMMENT ON COLUMN ops.retired.row_count IS 'Rows that it holds. [rows]';
COMMENT ON COLUMN ops.retired.ledger IS 'The rows of ops.slices, content hashes among them, that spoke of its days.';
COMMENT ON COLUMN ops.retired.retired_at IS 'When. [UTC]';

-- Attaching needs the parent's owner. Writers are not given that: they may call this, which makes a month and nothing else.
CREATE FUNCTION ops.make_partition(parent_schema text, parent_name text, month date) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    child CONSTANT text := parent_name || to_char(month, '_YYYY_MM');
    parent oid;
    key    name;
    low    text;
    high   text;
BEGIN
    SELECT c.oid, a.attname INTO parent, key
    FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
    WHERE n.nspname = parent_schema AND c.relname = parent_name AND pg_has_role(current_user, c.relowner, 'USAGE');
    IF NOT FOUND THEN
        RAISE wrong_object_type USING MESSAGE = format('%s.%s is not partitioned, or is not one of this pipeline''s tables', parent_schema, parent_name);
    END IF;
    IF month <> date_trunc('month', month::timestamp) OR month NOT BETWEEN '1900-01-01' AND '2200-12-01' THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%s is not the first day of a month between 1900 and 2200', month);
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('tft-pipeline partitions', 0));
    -- Asked after the lock: another process may have made it meanwhile. By its bounds as well: pg_partman gives other names.
    IF EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = parent_schema AND c.relname = child)
       OR EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = parent
                  AND starts_with(pg_get_expr(c.relpartbound, c.oid), 'FOR VALUES FROM (''' || month)) THEN
        RETURN NULL;
    END IF;
    -- The offset is spelled out: a bound without one would shift with the session's time zone. A date takes its date part.
    low := format('%s 00:00:00+00', month);
    high := format('%s 00:00:00+00', (month + interval '1 month')::date);
    -- Built beside its table, then attached: PARTITION OF would lock out every reader. The CHECK spares ATTACH its scan under lock.
    EXECUTE format('CREATE TABLE %I.%I (LIKE %I.%I INCLUDING ALL EXCLUDING COMMENTS, CHECK (%I >= %L AND %I < %L))',
                   parent_schema, child, parent_schema, parent_name, key, low, key, high);
    EXECUTE format('ALTER TABLE %I.%I ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)',
                   parent_schema, parent_name, parent_schema, child, low, high);
    RETURN parent_schema || '.' || child;
END $$;
COMMENT ON FUNCTION ops.make_partition IS 'Makes a table''s partition of a month; its name, or null where it was there.';
REVOKE ALL ON FUNCTION ops.make_partition FROM PUBLIC;

-- Roles belong to the whole cluster: another database may have made them already, or be making them this very moment. Where the
-- current user may not do something, the rest is done all the same; what is missing comes back as SQL for an administrator.
CREATE FUNCTION ops.apply_roles() RETURNS SETOF text LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    names   CONSTANT text[] := ARRAY['ops', 'market', 'sentiment', 'features', 'training', 'forecasts', 'signals', 'portfolio', 'monitoring', 'retired'];
    may_set CONSTANT text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
    role    text;
    found   record;
    makers  name[] := ARRAY[current_user];
    maker   name;
BEGIN
    FOREACH role IN ARRAY ARRAY['tft_owner', 'tft_writer', 'tft_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL; -- another database was faster
                WHEN insufficient_privilege THEN RETURN NEXT format('CREATE ROLE %I NOLOGIN', role);
            END;
        END IF;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            RETURN NEXT format('GRANT %I TO %I', role, current_user);
        ELSIF NOT (pg_has_role(current_user, role, may_set) AND pg_has_role(current_user, role, 'USAGE')) THEN
            BEGIN
                EXECUTE format('GRANT %I TO %I', role, current_user);
            EXCEPTION
                WHEN unique_violation THEN NULL; -- granted in another database this moment
                WHEN insufficient_privilege THEN RETURN NEXT format('GRANT %I TO %I', role, current_user);
            END;
        END IF;
    END LOOP;
    IF (SELECT count(*) FROM pg_roles WHERE rolname IN ('tft_owner', 'tft_writer', 'tft_reader')) < 3 THEN
        RETURN NEXT 'SELECT ops.apply_roles()';
        RETURN;
    END IF;

    -- Owner. Of tables, not of their partitions, which may be thousands: upkeep hands those over, each in a transaction of its own.
    IF pg_has_role(current_user, 'tft_owner', may_set) AND pg_has_role(current_user, 'tft_owner', 'USAGE') THEN
        BEGIN
            FOR found IN
                SELECT format('SCHEMA %I', nspname) AS thing FROM pg_namespace WHERE nspname = ANY (names) AND nspowner <> 'tft_owner'::regrole
            LOOP
                EXECUTE format('ALTER %s OWNER TO tft_owner', found.thing);
            END LOOP;
            FOR found IN
                SELECT format('%s %s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::regclass) AS thing
                FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = ANY (names) AND n.nspname <> 'retired' AND c.relkind IN ('r', 'p', 'S', 'v') AND NOT c.relispartition
                  AND c.relowner <> 'tft_owner'::regrole
                  AND NOT (c.relkind = 'S' AND EXISTS ( -- a column's own sequence goes with its table
                      SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')))
                UNION ALL
                SELECT format('DOMAIN %s', t.oid::regtype) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
                WHERE n.nspname = ANY (names) AND t.typtype = 'd' AND t.typowner <> 'tft_owner'::regrole
                UNION ALL
                SELECT format('ROUTINE %s', p.oid::regprocedure) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                WHERE n.nspname = ANY (names) AND p.proowner <> 'tft_owner'::regrole
            LOOP
                EXECUTE format('ALTER %s OWNER TO tft_owner', found.thing);
            END LOOP;
            makers := makers || 'tft_owner'::name;
        EXCEPTION WHEN insufficient_privilege THEN
            RETURN NEXT format('GRANT CREATE ON DATABASE %I TO tft_owner, %I', current_database(), current_user);
            RETURN NEXT 'SELECT ops.apply_roles()';
        END;
    END IF;

    -- Writer and reader.
    BEGIN
        FOR found IN
            SELECT n.nspname, c.relname, c.relkind FROM pg_namespace n LEFT JOIN pg_class c
                ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'S', 'v') AND NOT c.relispartition AND n.nspname <> 'retired'
            WHERE n.nspname = ANY (names) ORDER BY n.nspname, c.relname
        LOOP
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO tft_reader', found.nspname);
            CONTINUE WHEN found.nspname = 'retired';
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO tft_writer', found.nspname);
            IF found.relkind = 'S' THEN
                EXECUTE format('GRANT USAGE ON SEQUENCE %I.%I TO tft_writer', found.nspname, found.relname);
            ELSIF found.relname IS NOT NULL THEN
                EXECUTE format('GRANT SELECT ON %I.%I TO tft_reader, tft_writer', found.nspname, found.relname);
                EXECUTE format('GRANT INSERT, UPDATE, DELETE ON %I.%I TO tft_writer', found.nspname, found.relname);
            END IF;
        END LOOP;
        REVOKE INSERT, UPDATE, DELETE ON ops.migrations, ops.retired FROM tft_writer; -- the owner's books
        GRANT EXECUTE ON FUNCTION ops.make_partition TO tft_writer;
        FOREACH maker IN ARRAY makers LOOP
            FOR found IN SELECT nspname FROM pg_namespace WHERE nspname = ANY (names) AND nspname <> 'retired' LOOP
                EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT SELECT ON TABLES TO tft_reader', maker, found.nspname);
                EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO tft_writer',
                               maker, found.nspname);
                EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT USAGE ON SEQUENCES TO tft_writer', maker, found.nspname);
            END LOOP;
        END LOOP;
    EXCEPTION WHEN insufficient_privilege THEN
        RETURN NEXT 'SELECT ops.apply_roles()';
    END;
END $$;
COMMENT ON FUNCTION ops.apply_roles IS 'Makes the three roles and gives them their rights on all there is; what it may not do comes back as SQL.';
REVOKE ALL ON FUNCTION ops.apply_roles FROM PUBLIC;

-- Called by `migrate` after each file, so that what later files make is covered, too; and here for who applies this one by hand.
SELECT ops.apply_roles();
