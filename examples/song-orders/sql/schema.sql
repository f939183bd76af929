-- The shop's database, below what the library keeps in its own schema. It is run in one
-- transaction, by the owner; running it again changes nothing.

-- Nobody logs in with these: a pool of the host takes one of them on for each of its connections.
-- Roles belong to the whole server, so another database of it may make them at the same time.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY[
        'song_intake', 'song_worker', 'song_admin', 'song_customer', 'song_anyone'
    ] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            END IF;
            IF NOT pg_has_role(current_user, wanted, 'MEMBER') THEN
                EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END
$$;

CREATE SCHEMA IF NOT EXISTS songs;

-- What was paid, and how far it is. The payment is the sender's word; the progress is ours.
CREATE TABLE IF NOT EXISTS songs.orders (
    id uuid PRIMARY KEY,
    checkout text NOT NULL UNIQUE,
    run uuid NOT NULL UNIQUE,
    customer text NOT NULL,
    recipient text,
    occasion_date date NOT NULL,
    retained_until date NOT NULL,
    payment text NOT NULL DEFAULT 'paid' CHECK (payment IN ('paid', 'refund_due')),
    progress text NOT NULL DEFAULT 'ordered'
        CHECK (progress IN ('ordered', 'generating', 'completed', 'failed', 'removed')),
    created_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    CHECK (retained_until >= occasion_date),
    CHECK ((progress = 'completed') = (completed_at IS NOT NULL))
);

-- Each delivery that was taken, as it was signed.
CREATE TABLE IF NOT EXISTS songs.deliveries (
    event text PRIMARY KEY,
    order_id uuid NOT NULL REFERENCES songs.orders ON DELETE CASCADE,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);

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

ALTER TABLE songs.orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE songs.deliveries ENABLE ROW LEVEL SECURITY;
ALTER TABLE songs.variants ENABLE ROW LEVEL SECURITY;
ALTER TABLE songs.shares ENABLE ROW LEVEL SECURITY;
ALTER TABLE songs.dead_letter_notes ENABLE ROW LEVEL SECURITY;

-- Without a policy for a role, row-level security shows it nothing, whatever it is granted.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN SELECT * FROM (VALUES
        ('orders', 'intake', 'song_intake', 'true'),
        ('deliveries', 'intake', 'song_intake', 'true'),
        ('orders', 'worker', 'song_worker', 'true'),
        ('deliveries', 'worker', 'song_worker', 'true'),
        ('variants', 'worker', 'song_worker', 'true'),
        ('shares', 'worker', 'song_worker', 'true'),
        ('dead_letter_notes', 'admin', 'song_admin', 'true'),
        ('orders', 'customer', 'song_customer',
            'customer = current_setting(''songs.customer'', true)'),
        ('variants', 'customer', 'song_customer',
            'EXISTS (SELECT FROM songs.orders o WHERE o.id = order_id)')
    ) AS policies (place, name, whom, condition) LOOP
        EXECUTE format('DROP POLICY IF EXISTS %I ON songs.%I', wanted.name, wanted.place);
        EXECUTE format('CREATE POLICY %I ON songs.%I TO %I USING (%s) WITH CHECK (%s)',
            wanted.name, wanted.place, wanted.whom, wanted.condition, wanted.condition);
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA songs
    TO song_intake, song_worker, song_admin, song_customer, song_anyone;
GRANT SELECT, INSERT ON songs.orders, songs.deliveries TO song_intake;
GRANT SELECT ON songs.orders TO song_worker;
GRANT UPDATE (payment, progress, completed_at, recipient) ON songs.orders TO song_worker;
GRANT SELECT, DELETE ON songs.deliveries TO song_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON songs.variants TO song_worker;
GRANT SELECT, INSERT, DELETE ON songs.shares TO song_worker;
GRANT SELECT, INSERT ON songs.dead_letter_notes TO song_admin;
GRANT SELECT ON songs.orders, songs.variants TO song_customer;
GRANT UPDATE (selected) ON songs.variants TO song_customer;

-- Who holds a token sees the songs of that order; there is nothing that anybody could list.
CREATE OR REPLACE FUNCTION songs.shared(token text)
RETURNS TABLE (recipient text, variant_number smallint, object text, duration_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    SELECT o.recipient, v.variant_number, v.object, v.duration_ms
    FROM songs.shares s
    JOIN songs.orders o ON o.id = s.order_id
    JOIN songs.variants v ON v.order_id = o.id AND v.status = 'ready'
    WHERE s.token_hash = pg_catalog.sha256(pg_catalog.convert_to(token, 'UTF8'))
        AND o.retained_until >= CURRENT_DATE
    ORDER BY v.variant_number
$$;
REVOKE ALL ON FUNCTION songs.shared(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION songs.shared(text) TO song_anyone;
