-- The first schema: runs, journal, requests, leases, ledger, secrets, limits, and the views for
-- people. Moments are milliseconds since 1970; structured values are JSON text. There are no
-- foreign keys and no triggers: every statement of the store keeps the rows together by itself,
-- and a key that refers to another table would lock a row of it for every step.

CREATE TABLE provision.namespaces (
    ns integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

-- The store's clock is the server's, moved by `shift_ms` so that it never goes back behind the
-- reading that was last kept: not when the server's clock is set back, not after a failover.
CREATE TABLE provision.clock (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    kept_ms bigint NOT NULL,
    shift_ms bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO provision.clock (kept_ms, shift_ms) VALUES (0, 0);

CREATE VIEW provision.moment AS
SELECT greatest(
    kept_ms, shift_ms + floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
) AS now
FROM provision.clock;

-- One lane for each named queue and saga: a worker only looks at lanes it can serve.
CREATE TABLE provision.lanes (
    lane integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ns integer NOT NULL,
    queue text COLLATE "C" NOT NULL,
    saga text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    UNIQUE (ns, queue, saga, version, fingerprint)
);

-- What never changes about a run.
CREATE TABLE provision.runs (
    ns integer NOT NULL,
    run uuid NOT NULL,
    tenant text COLLATE "C",
    key text COLLATE "C",
    input text NOT NULL,
    input_hash text NOT NULL,
    parent_run uuid,
    parent_path text,
    context text NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (ns, run)
);
CREATE UNIQUE INDEX runs_key ON provision.runs (ns, key) WHERE key IS NOT NULL;
CREATE INDEX runs_parent ON provision.runs (ns, parent_run) WHERE parent_run IS NOT NULL;

-- What changes with every step, small and apart from inputs. `place` is 0 for a run that is leased
-- or never due, 1 for one that is due later, 2 for one that is ready. What a step changes stands
-- last, so that the log of an update is short; none of it is indexed, so that the update stays on
-- its page.
CREATE TABLE provision.heads (
    ns integer NOT NULL,
    lane integer NOT NULL,
    run uuid NOT NULL,
    priority integer NOT NULL,
    tenant_lane text COLLATE "C" NOT NULL,
    guard text COLLATE "C",
    guard_until text,
    guard_freed text COLLATE "C",
    guard_freed_until text,
    died_at bigint,
    owner uuid,
    epoch bigint NOT NULL,
    nonce bigint NOT NULL,
    requests bigint NOT NULL,
    consumed bigint NOT NULL,
    due bigint NOT NULL,
    place smallint NOT NULL,
    poked boolean NOT NULL,
    dead_letter boolean NOT NULL,
    polls text NOT NULL,
    seq bigint NOT NULL,
    updated_at bigint NOT NULL,
    deaths integer NOT NULL,
    open boolean NOT NULL,
    status text NOT NULL CHECK (status IN (
        'Running', 'Waiting', 'Unwinding', 'Paused', 'Parked', 'Succeeded', 'PartlySucceeded',
        'RolledBack', 'RolledBackKeeping', 'TornDown'
    )),
    summary text NOT NULL,
    PRIMARY KEY (ns, run)
) WITH (
    fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX heads_ready ON provision.heads (ns, lane, priority DESC, tenant_lane, due, run)
WHERE place = 2;
CREATE INDEX heads_delayed ON provision.heads (ns, lane, due) WHERE place = 1;
CREATE INDEX heads_owner ON provision.heads (ns, owner, run) WHERE owner IS NOT NULL;
CREATE INDEX heads_dead ON provision.heads (ns, run) WHERE dead_letter;
CREATE UNIQUE INDEX heads_guard ON provision.heads (ns, guard) WHERE guard IS NOT NULL;

-- Rows are only ever added.
CREATE TABLE provision.frames (
    ns integer NOT NULL,
    run uuid NOT NULL,
    seq bigint NOT NULL,
    epoch bigint NOT NULL,
    at bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (ns, run, seq)
);

CREATE TABLE provision.requests (
    ns integer NOT NULL,
    run uuid NOT NULL,
    number bigint NOT NULL,
    at bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (ns, run, number)
);

CREATE TABLE provision.incarnations (
    ns integer NOT NULL,
    id uuid NOT NULL,
    expires bigint NOT NULL,
    dead_at bigint,
    PRIMARY KEY (ns, id)
) WITH (fillfactor = 50);
CREATE INDEX incarnations_alive ON provision.incarnations (ns, id) WHERE dead_at IS NULL;
CREATE INDEX incarnations_dead ON provision.incarnations (ns, dead_at) WHERE dead_at IS NOT NULL;

CREATE TABLE provision.ledger (
    ns integer NOT NULL,
    run uuid NOT NULL,
    path text COLLATE "C" NOT NULL,
    generation bigint NOT NULL,
    idx bigint NOT NULL,
    tenant text COLLATE "C",
    provider text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C",
    external_id text COLLATE "C",
    origin text NOT NULL CHECK (origin IN ('created', 'adopted')),
    state text NOT NULL CHECK (state IN ('unknown', 'alive', 'gone', 'left_behind')),
    region text,
    template text,
    cost text,
    suspect boolean NOT NULL,
    watch_at bigint,
    since bigint NOT NULL,
    until bigint,
    PRIMARY KEY (ns, run, path, generation, idx)
);
CREATE INDEX ledger_names ON provision.ledger (ns, provider, account, kind, name)
WHERE name IS NOT NULL AND origin = 'created' AND state IN ('unknown', 'alive');
CREATE INDEX ledger_watch ON provision.ledger (ns, watch_at) WHERE watch_at IS NOT NULL;
CREATE INDEX ledger_ids ON provision.ledger (ns, external_id) WHERE external_id IS NOT NULL;

CREATE TABLE provision.sightings (
    ns integer NOT NULL,
    run uuid NOT NULL,
    path text COLLATE "C" NOT NULL,
    provider text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    external_id text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    at bigint NOT NULL,
    generation bigint NOT NULL,
    PRIMARY KEY (ns, run, path, provider, kind, external_id, epoch)
);

CREATE TABLE provision.secrets (
    ns integer NOT NULL,
    scope text COLLATE "C" NOT NULL,
    generation bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    path text COLLATE "C" NOT NULL,
    format smallint NOT NULL,
    key_id text NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (ns, scope, generation, name, path)
);

-- Shared limits. Never logged: losing them in a crash of the server costs at most one burst.
CREATE UNLOGGED TABLE provision.buckets (
    ns integer NOT NULL,
    bucket text COLLATE "C" NOT NULL,
    state text NOT NULL,
    PRIMARY KEY (ns, bucket)
) WITH (fillfactor = 50);

-- Everything about a run in the order in which the store reads it.
CREATE VIEW provision.run_rows AS
SELECT
    h.ns, h.run, l.saga, l.version, l.fingerprint, r.tenant, l.queue, h.priority, r.key, h.guard,
    h.guard_until, r.input, r.input_hash, r.parent_run, r.parent_path, r.context, h.status, h.due,
    h.polls, h.seq, h.epoch, h.owner, h.requests, h.consumed, h.open, h.deaths, h.summary,
    r.created_at, h.updated_at, h.died_at, h.dead_letter
FROM provision.heads AS h
INNER JOIN provision.runs AS r ON r.ns = h.ns AND r.run = h.run
INNER JOIN provision.lanes AS l ON l.lane = h.lane;

-- For people and other programs. Columns are only ever added.
CREATE VIEW provision.runs_view AS
SELECT
    n.name AS namespace, x.run, x.saga, x.version, x.tenant, x.queue, x.priority, x.key, x.guard,
    x.status,
    CASE WHEN x.due < 253402300800000 THEN to_timestamp(x.due / 1000.0) END AS due,
    x.owner, x.epoch, x.seq, x.requests - x.consumed AS requests_waiting, x.deaths,
    x.summary::json ->> 'phase' AS phase,
    (x.summary::json ->> 'done')::integer AS done,
    (x.summary::json ->> 'total')::integer AS total,
    x.summary::json ->> 'waiting' AS waiting,
    x.summary::json -> 'failure' ->> 'path' AS failed_path,
    x.summary::json -> 'failure' ->> 'code' AS failed_code,
    x.summary::json -> 'failure' ->> 'message' AS failed_message,
    x.input, x.context::json AS context, x.dead_letter,
    to_timestamp(x.created_at / 1000.0) AS created_at,
    to_timestamp(x.updated_at / 1000.0) AS updated_at
FROM provision.run_rows AS x
INNER JOIN provision.namespaces AS n ON n.ns = x.ns;

CREATE VIEW provision.dead_letters AS
SELECT * FROM provision.runs_view WHERE dead_letter;

CREATE VIEW provision.journal_view AS
SELECT
    n.name AS namespace, f.run, f.seq, record.position - 1 AS position, f.epoch,
    to_timestamp(f.at / 1000.0) AS at, record.value AS record
FROM provision.frames AS f
INNER JOIN provision.namespaces AS n ON n.ns = f.ns
CROSS JOIN LATERAL json_array_elements(f.body::json) WITH ORDINALITY AS record (value, position);

CREATE VIEW provision.ledger_view AS
SELECT
    n.name AS namespace, g.run, g.path, g.generation, g.idx AS position, g.tenant, g.provider,
    g.account, g.kind, g.name, g.external_id, g.origin, g.state, g.region, g.template,
    (g.cost::json ->> 'milli')::numeric / 1000 AS cost,
    g.cost::json ->> 'currency' AS currency, g.cost::json ->> 'per' AS cost_per, g.suspect,
    to_timestamp(g.watch_at / 1000.0) AS watch_at, to_timestamp(g.since / 1000.0) AS since,
    to_timestamp(g.until / 1000.0) AS until
FROM provision.ledger AS g
INNER JOIN provision.namespaces AS n ON n.ns = g.ns;
