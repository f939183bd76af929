-- The shop's database, below what the library keeps in its own schema. It is run in one
-- transaction, by the owner; running it again changes nothing.

-- Nobody logs in with these: a pool of the host takes one of them on for each of its connections.
-- `song_keeper` is nobody's: two functions belong to it, which do what no other role may.
-- Roles belong to the whole server, so another database of it may make them at the same time.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY[
        'song_intake', 'song_worker', 'song_admin', 'song_customer', 'song_anyone', 'song_keeper'
    ] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            END IF;
            -- Since PostgreSQL 16, who makes a role is a member of it and may yet not take it on.
            IF NOT pg_has_role(current_user, wanted, CASE
                WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER'
                ELSE 'SET'
            END) THEN
                EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END
$$;

CREATE SCHEMA IF NOT EXISTS songs;

-- Whose clouds the songs of this database are in: what is real is never looked for among simulated
-- ones, nor the other way round.
CREATE TABLE IF NOT EXISTS songs.clouds (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    live boolean NOT NULL,
    -- What this schema was made by: a command that would change nothing does not try to.
    made_by bytea
);
ALTER TABLE songs.clouds ADD COLUMN IF NOT EXISTS made_by bytea;

-- What was paid, and how far it is. The payment is the sender's word; the progress is ours.
-- Whom it is about stands here alone, so that removing it here removes it.
CREATE TABLE IF NOT EXISTS songs.orders (
    id uuid PRIMARY KEY,
    checkout text NOT NULL UNIQUE,
    run uuid NOT NULL UNIQUE,
    customer text CHECK (customer <> ''),
    recipient text,
    story text,
    occasion_date date NOT NULL CHECK (isfinite(occasion_date)),
    retained_until date NOT NULL CHECK (isfinite(retained_until)),
    payment text NOT NULL CHECK (payment IN ('paid', 'free', 'refund_due', 'refunded')),
    progress text NOT NULL DEFAULT 'ordered'
        CHECK (progress IN ('ordered', 'generating', 'completed', 'failed', 'removed')),
    created_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    CHECK (retained_until >= occasion_date),
    CHECK ((progress = 'completed') = (completed_at IS NOT NULL)),
    CHECK ((progress = 'removed') = (customer IS NULL)),
    CHECK ((progress = 'removed') = (story IS NULL)),
    CHECK (progress <> 'removed' OR recipient IS NULL),
    -- Nothing is made of what was paid back.
    CHECK (payment <> 'refunded' OR progress IN ('failed', 'removed'))
);

-- Each delivery that was taken, as it was signed.
CREATE TABLE IF NOT EXISTS songs.deliveries (
    event text PRIMARY KEY,
    order_id uuid NOT NULL REFERENCES songs.orders ON DELETE CASCADE,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS deliveries_of ON songs.deliveries (order_id);
CREATE INDEX IF NOT EXISTS orders_open ON songs.orders (run)
    WHERE progress IN ('ordered', 'generating');
CREATE INDEX IF NOT EXISTS orders_of ON songs.orders (customer);
CREATE INDEX IF NOT EXISTS refunds_due ON songs.orders (created_at) WHERE payment = 'refund_due';

-- What was paid, proven, and cannot be made: somebody has to give the money back. What was signed
-- is kept until that is done.
CREATE TABLE IF NOT EXISTS songs.unusable_payments (
    event text PRIMARY KEY,
    checkout text,
    why text NOT NULL,
    body bytea,
    received_at timestamptz NOT NULL DEFAULT now(),
    refunded_at timestamptz,
    CHECK ((refunded_at IS NULL) = (body IS NOT NULL))
);
-- However many events tell of it, it was paid once.
CREATE UNIQUE INDEX IF NOT EXISTS one_payment
    ON songs.unusable_payments (coalesce(checkout, event));

CREATE TABLE IF NOT EXISTS songs.variants (
    order_id uuid NOT NULL REFERENCES songs.orders ON DELETE CASCADE,
    variant_number smallint NOT NULL CHECK (variant_number BETWEEN 1 AND 5),
    status text NOT NULL DEFAULT 'generating'
        CHECK (status IN ('generating', 'ready', 'failed')),
    object text UNIQUE,
    bytes bigint CHECK (bytes > 0),
    duration_ms bigint NOT NULL CHECK (duration_ms BETWEEN 3000 AND 600000),
    selected boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    PRIMARY KEY (order_id, variant_number),
    CHECK ((status = 'ready') = (object IS NOT NULL AND bytes IS NOT NULL
        AND completed_at IS NOT NULL)),
    CHECK (status = 'ready' OR NOT selected)
);
CREATE UNIQUE INDEX IF NOT EXISTS one_selected
    ON songs.variants (order_id) WHERE selected;

-- The token itself is sealed in the order's run: here stands what it is compared with.
CREATE TABLE IF NOT EXISTS songs.shares (
    order_id uuid PRIMARY KEY REFERENCES songs.orders ON DELETE CASCADE,
    token_hash bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32)
);

-- What people who look after runs that stopped have to say about them.
CREATE TABLE IF NOT EXISTS songs.dead_letter_notes (
    run uuid NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    note text NOT NULL CHECK (length(note) BETWEEN 1 AND 2000),
    PRIMARY KEY (run, noted_at)
);

-- Without a policy for a role, row-level security shows it nothing, whatever it is granted. It is
-- forced: there is no policy for the owner, who has nothing to read here.
DO $$
DECLARE
    place text;
    wanted record;
BEGIN
    FOREACH place IN ARRAY ARRAY[
        'orders', 'deliveries', 'unusable_payments', 'variants', 'shares', 'dead_letter_notes'
    ] LOOP
        EXECUTE format('ALTER TABLE songs.%I ENABLE ROW LEVEL SECURITY', place);
        EXECUTE format('ALTER TABLE songs.%I FORCE ROW LEVEL SECURITY', place);
    END LOOP;
    FOR wanted IN SELECT * FROM (VALUES
        ('orders', 'intake', 'song_intake', 'true',
            'progress = ''ordered'' AND payment IN (''paid'', ''free'')'),
        ('deliveries', 'intake', 'song_intake', 'true', 'true'),
        ('unusable_payments', 'intake', 'song_intake', 'true', 'refunded_at IS NULL'),
        ('orders', 'worker', 'song_worker', 'true', 'true'),
        ('variants', 'worker', 'song_worker', 'true', 'true'),
        ('shares', 'worker', 'song_worker', 'true', 'true'),
        ('dead_letter_notes', 'admin', 'song_admin', 'true', 'true'),
        ('unusable_payments', 'admin', 'song_admin', 'true', 'refunded_at IS NOT NULL'),
        -- What is to be paid back, or was: administrators say when, and nothing else.
        ('orders', 'admin', 'song_admin', 'payment IN (''refund_due'', ''refunded'')',
            'payment = ''refunded'''),
        -- A setting that was reset is empty, and nobody's name.
        ('orders', 'customer', 'song_customer',
            'customer = nullif(current_setting(''songs.customer'', true), '''')', 'false'),
        ('variants', 'customer', 'song_customer',
            'EXISTS (SELECT FROM songs.orders o WHERE o.id = order_id)',
            'EXISTS (SELECT FROM songs.orders o WHERE o.id = order_id)'),
        ('orders', 'keeper', 'song_keeper', 'true', 'true'),
        ('deliveries', 'keeper', 'song_keeper', 'true', 'true'),
        ('variants', 'keeper', 'song_keeper', 'true', 'true'),
        ('shares', 'keeper', 'song_keeper', 'true', 'true'),
        ('dead_letter_notes', 'keeper', 'song_keeper', 'true', 'true')
    ) AS policies (place, name, whom, sees, writes) LOOP
        EXECUTE format('DROP POLICY IF EXISTS %I ON songs.%I', wanted.name, wanted.place);
        -- A member of a role has its policies without having taken it on, and the owner, who hands
        -- the roles out, is a member of them all.
        EXECUTE format('CREATE POLICY %I ON songs.%I TO %I
            USING (current_user = %L AND (%s)) WITH CHECK (current_user = %L AND (%s))',
            wanted.name, wanted.place, wanted.whom,
            wanted.whom, wanted.sees, wanted.whom, wanted.writes);
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA songs
    TO song_intake, song_worker, song_admin, song_customer, song_anyone, song_keeper;
GRANT SELECT (id, checkout, progress), INSERT (
    id, checkout, run, customer, recipient, story, occasion_date, retained_until, payment
) ON songs.orders TO song_intake;
GRANT SELECT (event), INSERT (event, order_id, body) ON songs.deliveries TO song_intake;
GRANT SELECT (checkout), INSERT (event, checkout, why, body)
    ON songs.unusable_payments TO song_intake;
GRANT SELECT ON songs.orders TO song_worker;
GRANT UPDATE (payment, progress, completed_at) ON songs.orders TO song_worker;
GRANT SELECT, INSERT, UPDATE ON songs.variants TO song_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON songs.shares TO song_worker;
GRANT SELECT, INSERT ON songs.dead_letter_notes TO song_admin;
GRANT SELECT, UPDATE (refunded_at, body) ON songs.unusable_payments TO song_admin;
GRANT SELECT (checkout, run, payment, progress, created_at), UPDATE (payment)
    ON songs.orders TO song_admin;
GRANT SELECT ON songs.orders, songs.variants TO song_customer;
GRANT UPDATE (selected) ON songs.variants TO song_customer;
GRANT SELECT, UPDATE (progress, completed_at, customer, recipient, story)
    ON songs.orders TO song_keeper;
GRANT SELECT, DELETE ON songs.deliveries, songs.variants, songs.shares, songs.dead_letter_notes
    TO song_keeper;

-- Who holds a token sees the songs of that order; there is nothing that anybody could list.
CREATE OR REPLACE FUNCTION songs.shared(hash bytea)
RETURNS TABLE (recipient text, variant_number smallint, object text, duration_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    SELECT o.recipient, v.variant_number, v.object, v.duration_ms
    FROM songs.shares s
    JOIN songs.orders o ON o.id = s.order_id
    JOIN songs.variants v ON v.order_id = o.id AND v.status = 'ready'
    WHERE s.token_hash = hash
        AND o.retained_until >= CURRENT_DATE
    ORDER BY v.variant_number
$$;

-- What is left of an order that is removed says that it was there and how it was paid, and nothing
-- about anybody.
CREATE OR REPLACE FUNCTION songs.forget(wanted uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    made_by uuid;
BEGIN
    -- Not below a run that is at work on it.
    UPDATE songs.orders SET progress = 'removed', completed_at = NULL, customer = NULL,
        recipient = NULL, story = NULL
    WHERE id = wanted AND progress IN ('completed', 'failed')
    RETURNING run INTO made_by;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM songs.variants WHERE order_id = wanted;
    DELETE FROM songs.shares WHERE order_id = wanted;
    DELETE FROM songs.deliveries WHERE order_id = wanted;
    DELETE FROM songs.dead_letter_notes WHERE run = made_by;
END
$$;

-- A function's owner needs this while it becomes the owner, and never after.
GRANT CREATE ON SCHEMA songs TO song_keeper;
ALTER FUNCTION songs.shared(bytea) OWNER TO song_keeper;
ALTER FUNCTION songs.forget(uuid) OWNER TO song_keeper;
REVOKE CREATE ON SCHEMA songs FROM song_keeper;
REVOKE ALL ON FUNCTION songs.shared(bytea), songs.forget(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION songs.shared(bytea) TO song_anyone;
GRANT EXECUTE ON FUNCTION songs.forget(uuid) TO song_worker;
