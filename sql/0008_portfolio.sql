-- 0008 portfolio
-- What:  portfolio.trades, portfolio.positions, portfolio.equity, and the triggers that make the ledger balance.
-- Why:   money that does not add up must not be committed, whoever wrote it and however.
-- Locks: none on existing tables.
-- Back:  DROP SCHEMA portfolio CASCADE; DELETE FROM ops.migrations WHERE name = '0008_portfolio.sql';

CREATE SCHEMA portfolio;

CREATE TABLE portfolio.trades (
    ticker            ops.ticker       NOT NULL,
    executed_at       timestamptz      NOT NULL,
    kind              text COLLATE "C" NOT NULL CHECK (kind IN ('trade', 'split', 'dividend')),
    quantity          bigint           NOT NULL,
    price             ops.finite       NOT NULL CHECK (price >= 0),
    cost_cents        bigint           NOT NULL CHECK (cost_cents >= 0),
    cash_change_cents bigint           NOT NULL,
    PRIMARY KEY (ticker, executed_at, kind)
) PARTITION BY RANGE (executed_at);
CREATE INDEX ON portfolio.trades (ticker, executed_at DESC);
CREATE INDEX ON portfolio.trades (executed_at);
COMMENT ON TABLE portfolio.trades IS 'What changed holdings or cash: fills at the open of the bar after the decision, splits and dividends.';
COMMENT ON COLUMN portfolio.trades.ticker IS 'Exchange ticker, upper case.';
COMMENT ON COLUMN portfolio.trades.executed_at IS 'Start of the bar in which it happened. [UTC]';
COMMENT ON COLUMN portfolio.trades.kind IS 'trade, split or dividend.';
COMMENT ON COLUMN portfolio.trades.quantity IS 'Signed change of shares. [shares]';
COMMENT ON COLUMN portfolio.trades.price IS 'Fill price before costs; ratio of a split; dollars of a dividend. [USD a share]';
COMMENT ON COLUMN portfolio.trades.cost_cents IS 'Spread, slippage and fee. [US cents]';
COMMENT ON COLUMN portfolio.trades.cash_change_cents IS 'Signed change of cash, costs included. [US cents]';

CREATE TABLE portfolio.positions (
    ticker      ops.ticker  NOT NULL,
    marked_at   timestamptz NOT NULL,
    quantity    bigint      NOT NULL,
    price       ops.finite  NOT NULL CHECK (price >= 1e-9),
    value_cents bigint      NOT NULL,
    PRIMARY KEY (ticker, marked_at)
) PARTITION BY RANGE (marked_at);
CREATE INDEX ON portfolio.positions (ticker, marked_at DESC);
CREATE INDEX ON portfolio.positions (marked_at);
COMMENT ON TABLE portfolio.positions IS 'Every open position at the end of each bar.';
COMMENT ON COLUMN portfolio.positions.ticker IS 'Exchange ticker, upper case.';
COMMENT ON COLUMN portfolio.positions.marked_at IS 'End of the bar. [UTC]';
COMMENT ON COLUMN portfolio.positions.quantity IS 'Signed shares held; never 0. [shares]';
COMMENT ON COLUMN portfolio.positions.price IS 'Last close as traded. [USD a share]';
COMMENT ON COLUMN portfolio.positions.value_cents IS 'quantity × price, rounded to the cent. [US cents]';

CREATE TABLE portfolio.equity (
    marked_at       timestamptz NOT NULL,
    cash_cents      bigint      NOT NULL,
    positions_cents bigint      NOT NULL,
    equity_cents    bigint      NOT NULL,
    cost_cents      bigint      NOT NULL CHECK (cost_cents >= 0),
    drawdown        ops.finite  NOT NULL CHECK (drawdown <= 0),
    PRIMARY KEY (marked_at),
    CONSTRAINT equity_cash_and_positions CHECK (cash_cents + positions_cents = equity_cents)
) PARTITION BY RANGE (marked_at);
COMMENT ON TABLE portfolio.equity IS 'The portfolio''s worth at the end of each bar; cash + positions = equity is asserted by the database.';
COMMENT ON COLUMN portfolio.equity.marked_at IS 'End of the bar. [UTC]';
COMMENT ON COLUMN portfolio.equity.cash_cents IS 'Cash. [US cents]';
COMMENT ON COLUMN portfolio.equity.positions_cents IS 'Sum of portfolio.positions at this moment. [US cents]';
COMMENT ON COLUMN portfolio.equity.equity_cents IS 'Cash plus positions. [US cents]';
COMMENT ON COLUMN portfolio.equity.cost_cents IS 'Costs paid since the mark before. [US cents]';
COMMENT ON COLUMN portfolio.equity.drawdown IS 'Equity against its highest mark so far, minus 1. [share]';

-- What a day's ledger must satisfy: at each mark the positions' values sum to positions_cents, and cash differs from the mark before
-- by exactly the trades in between, the first mark after the day included. The very first mark has nothing before it.
-- Who rewrites a day must therefore rewrite all that follows from it, in the same transaction. TRUNCATE passes: it is the owner's.
CREATE FUNCTION portfolio.check_day(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    day_start CONSTANT timestamptz := day::timestamp AT TIME ZONE 'UTC';
    day_end   CONSTANT timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    before    CONSTANT timestamptz := (SELECT max(e.marked_at) FROM portfolio.equity e WHERE e.marked_at < day_start);
    after     CONSTANT timestamptz := (SELECT min(e.marked_at) FROM portfolio.equity e WHERE e.marked_at >= day_end);
    wrong     record;
BEGIN
    SELECT marked_at, e.positions_cents, p.total INTO wrong
    FROM (SELECT marked_at, positions_cents FROM portfolio.equity WHERE marked_at >= day_start AND marked_at < day_end) e
    FULL JOIN (SELECT marked_at, sum(value_cents) AS total FROM portfolio.positions
               WHERE marked_at >= day_start AND marked_at < day_end GROUP BY marked_at) p USING (marked_at)
    WHERE e.positions_cents IS DISTINCT FROM coalesce(p.total, 0)
    ORDER BY marked_at LIMIT 1;
    IF FOUND THEN
        RAISE check_violation USING
            MESSAGE = format('portfolio.equity: at %s positions_cents is %s, yet the values in portfolio.positions sum to %s',
                             wrong.marked_at, coalesce(wrong.positions_cents::text, 'missing'), coalesce(wrong.total, 0)),
            SCHEMA = 'portfolio', TABLE = 'equity', CONSTRAINT = 'equity_positions_add_up';
    END IF;

    SELECT m.marked_at, m.previous, m.cash_cents - m.previous_cash AS moved, m.traded INTO wrong
    FROM (SELECT marks.*, (SELECT coalesce(sum(t.cash_change_cents), 0) FROM portfolio.trades t
                           WHERE t.executed_at >= marks.previous AND t.executed_at < marks.marked_at) AS traded
          FROM (SELECT marked_at, cash_cents, lag(marked_at) OVER w AS previous, lag(cash_cents) OVER w AS previous_cash
                FROM portfolio.equity WHERE marked_at >= coalesce(before, day_start) AND marked_at <= coalesce(after, day_end)
                WINDOW w AS (ORDER BY marked_at)) marks
          WHERE marks.previous IS NOT NULL) m
    WHERE m.cash_cents - m.previous_cash <> m.traded
    ORDER BY m.marked_at LIMIT 1;
    IF FOUND THEN
        RAISE check_violation USING
            MESSAGE = format('portfolio.equity: cash moves by %s cents between %s and %s, yet the trades in between move it by %s',
                             wrong.moved, wrong.previous, wrong.marked_at, wrong.traded),
            SCHEMA = 'portfolio', TABLE = 'equity', CONSTRAINT = 'equity_cash_moves_by_trades';
    END IF;
END $$;
COMMENT ON FUNCTION portfolio.check_day IS 'Raises check_violation where the ledger of a UTC day does not add up.';

-- Fires once a row, at commit; checks each day once a statement. statement_timestamp() is the COMMIT's own, so the memory of what was
-- checked cannot outlive a later change in the same transaction.
CREATE FUNCTION portfolio.row_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moment  CONSTANT text := pg_current_xact_id()::text || ' ' || statement_timestamp()::text;
    checked text := current_setting('tft.ledger_checked', true);
    days    date[];
    day     date;
BEGIN
    IF TG_ARGV[0] = 'executed_at' THEN
        IF TG_OP <> 'INSERT' THEN days := array_append(days, (OLD.executed_at AT TIME ZONE 'UTC')::date); END IF;
        IF TG_OP <> 'DELETE' THEN days := array_append(days, (NEW.executed_at AT TIME ZONE 'UTC')::date); END IF;
    ELSE
        IF TG_OP <> 'INSERT' THEN days := array_append(days, (OLD.marked_at AT TIME ZONE 'UTC')::date); END IF;
        IF TG_OP <> 'DELETE' THEN days := array_append(days, (NEW.marked_at AT TIME ZONE 'UTC')::date); END IF;
    END IF;
    FOREACH day IN ARRAY days LOOP
        IF checked IS NULL OR NOT starts_with(checked, moment) THEN
            checked := moment;
        END IF;
        IF strpos(checked, ',' || day) = 0 THEN
            PERFORM portfolio.check_day(day);
            checked := set_config('tft.ledger_checked', checked || ',' || day, true);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION portfolio.row_changed IS 'At commit, checks the days whose trades, positions or marks changed.';

CREATE CONSTRAINT TRIGGER ledger_balances AFTER INSERT OR UPDATE OR DELETE ON portfolio.trades
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION portfolio.row_changed('executed_at');
CREATE CONSTRAINT TRIGGER ledger_balances AFTER INSERT OR UPDATE OR DELETE ON portfolio.positions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION portfolio.row_changed('marked_at');
CREATE CONSTRAINT TRIGGER ledger_balances AFTER INSERT OR UPDATE OR DELETE ON portfolio.equity
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION portfolio.row_changed('marked_at');
