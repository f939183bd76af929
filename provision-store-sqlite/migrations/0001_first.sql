-- The first schema: runs, journal, requests, leases, ledger, secrets, and the views for reading
-- from outside. Ids are 16-byte blobs; moments are milliseconds since 1970; structured values are
-- JSON text. No foreign keys: all writes come from one writer that keeps the rows together.

CREATE TABLE provision_namespaces (
    ns INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- The last reading of the store's clock, so that it never goes back: not with the wall clock, not
-- over a restart.
CREATE TABLE provision_clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    boot TEXT NOT NULL,
    boot_ms INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL
) STRICT;

-- One lane for each named queue and saga: a worker only looks at lanes it can serve.
CREATE TABLE provision_lanes (
    lane INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL,
    queue TEXT NOT NULL,
    saga TEXT NOT NULL,
    version INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    UNIQUE (ns, queue, saga, version, fingerprint)
) STRICT;

-- What never changes about a run.
CREATE TABLE provision_runs (
    ns INTEGER NOT NULL,
    run BLOB NOT NULL,
    tenant TEXT,
    key TEXT,
    input TEXT NOT NULL,
    input_hash TEXT NOT NULL,
    parent_run BLOB,
    parent_path TEXT,
    context TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (ns, run)
) STRICT;
CREATE UNIQUE INDEX provision_runs_key ON provision_runs (ns, key) WHERE key IS NOT NULL;
CREATE INDEX provision_runs_parent ON provision_runs (ns, parent_run)
WHERE parent_run IS NOT NULL;

-- What changes with every step, small and apart from inputs. `place` is 0 for a run that is leased
-- or never due, 1 for one that is due later, 2 for one that is ready.
CREATE TABLE provision_heads (
    ns INTEGER NOT NULL,
    run BLOB NOT NULL,
    lane INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    tenant_lane TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN (
        'Running', 'Waiting', 'Unwinding', 'Paused', 'Parked', 'Succeeded', 'PartlySucceeded',
        'RolledBack', 'RolledBackKeeping', 'TornDown'
    )),
    due INTEGER NOT NULL,
    place INTEGER NOT NULL,
    polls TEXT NOT NULL,
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    owner BLOB,
    nonce INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    consumed INTEGER NOT NULL,
    open INTEGER NOT NULL,
    deaths INTEGER NOT NULL,
    poked INTEGER NOT NULL,
    died_at INTEGER,
    summary TEXT NOT NULL,
    dead_letter INTEGER NOT NULL,
    guard TEXT,
    guard_until TEXT,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (ns, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX provision_heads_ready
ON provision_heads (ns, lane, priority DESC, tenant_lane, due, run) WHERE place = 2;
CREATE INDEX provision_heads_delayed ON provision_heads (ns, lane, due) WHERE place = 1;
CREATE INDEX provision_heads_owner ON provision_heads (ns, owner, run)
WHERE owner IS NOT NULL;
CREATE INDEX provision_heads_dead ON provision_heads (ns, run) WHERE dead_letter = 1;
CREATE UNIQUE INDEX provision_heads_guard ON provision_heads (ns, guard) WHERE guard IS NOT NULL;

CREATE TABLE provision_frames (
    ns INTEGER NOT NULL,
    run BLOB NOT NULL,
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (ns, run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE provision_requests (
    ns INTEGER NOT NULL,
    run BLOB NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (ns, run, number)
) STRICT, WITHOUT ROWID;

-- Expiry is a reading of the machine's boot clock; after another boot every lease is over.
CREATE TABLE provision_incarnations (
    ns INTEGER NOT NULL,
    id BLOB NOT NULL,
    boot TEXT NOT NULL,
    expires INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    dead_at INTEGER,
    PRIMARY KEY (ns, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX provision_incarnations_alive ON provision_incarnations (ns, id)
WHERE dead_at IS NULL;

CREATE TABLE provision_ledger (
    ns INTEGER NOT NULL,
    run BLOB NOT NULL,
    path TEXT NOT NULL,
    generation INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    tenant TEXT,
    provider TEXT NOT NULL,
    account TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT,
    external_id TEXT,
    origin TEXT NOT NULL CHECK (origin IN ('created', 'adopted')),
    state TEXT NOT NULL CHECK (state IN ('unknown', 'alive', 'gone', 'left_behind')),
    region TEXT,
    template TEXT,
    cost TEXT,
    suspect INTEGER NOT NULL,
    watch_at INTEGER,
    since INTEGER NOT NULL,
    until INTEGER,
    PRIMARY KEY (ns, run, path, generation, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX provision_ledger_names ON provision_ledger (ns, provider, account, kind, name)
WHERE name IS NOT NULL AND origin = 'created' AND state IN ('unknown', 'alive');
CREATE INDEX provision_ledger_watch ON provision_ledger (ns, watch_at) WHERE watch_at IS NOT NULL;
CREATE INDEX provision_ledger_ids ON provision_ledger (ns, external_id)
WHERE external_id IS NOT NULL;

CREATE TABLE provision_sightings (
    ns INTEGER NOT NULL,
    run BLOB NOT NULL,
    path TEXT NOT NULL,
    provider TEXT NOT NULL,
    kind TEXT NOT NULL,
    external_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (ns, run, path, provider, kind, external_id, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE provision_secrets (
    ns INTEGER NOT NULL,
    scope TEXT NOT NULL,
    generation INTEGER NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    format INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (ns, scope, generation, name, path)
) STRICT, WITHOUT ROWID;

-- Everything about a run in the order in which the store reads it.
CREATE VIEW provision_run_rows AS
SELECT
    h.ns, h.run, l.saga, l.version, l.fingerprint, r.tenant, l.queue, h.priority, r.key, h.guard,
    h.guard_until, r.input, r.input_hash, r.parent_run, r.parent_path, r.context, h.status, h.due,
    h.polls, h.seq, h.epoch, h.owner, h.requests, h.consumed, h.open, h.deaths, h.summary,
    r.created_at, h.updated_at, h.died_at, h.dead_letter
FROM provision_heads AS h
CROSS JOIN provision_runs AS r ON r.ns = h.ns AND r.run = h.run
CROSS JOIN provision_lanes AS l ON l.lane = h.lane;

-- For people and other programs, readable while the store is in use.
CREATE VIEW runs_view AS
SELECT
    n.name AS namespace,
    lower(substr(hex(x.run), 1, 8) || '-' || substr(hex(x.run), 9, 4) || '-'
        || substr(hex(x.run), 13, 4) || '-' || substr(hex(x.run), 17, 4) || '-'
        || substr(hex(x.run), 21)) AS run,
    x.saga, x.version, x.tenant, x.queue, x.priority, x.key, x.guard, x.status,
    CASE WHEN x.due < 9223372036854775807
        THEN strftime('%Y-%m-%dT%H:%M:%fZ', x.due / 1000.0, 'unixepoch') END AS due,
    lower(hex(x.owner)) AS owner, x.epoch, x.seq, x.requests - x.consumed AS requests_waiting,
    x.deaths, json_extract(x.summary, '$.phase') AS phase,
    json_extract(x.summary, '$.done') AS done, json_extract(x.summary, '$.total') AS total,
    json_extract(x.summary, '$.waiting') AS waiting,
    json_extract(x.summary, '$.failure.path') AS failed_path,
    json_extract(x.summary, '$.failure.code') AS failed_code,
    json_extract(x.summary, '$.failure.message') AS failed_message,
    x.input, x.context, x.dead_letter,
    strftime('%Y-%m-%dT%H:%M:%fZ', x.created_at / 1000.0, 'unixepoch') AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', x.updated_at / 1000.0, 'unixepoch') AS updated_at
FROM provision_run_rows AS x
INNER JOIN provision_namespaces AS n ON n.ns = x.ns;

CREATE VIEW dead_letters AS
SELECT * FROM runs_view WHERE dead_letter = 1;

CREATE VIEW journal_view AS
SELECT
    n.name AS namespace,
    lower(substr(hex(f.run), 1, 8) || '-' || substr(hex(f.run), 9, 4) || '-'
        || substr(hex(f.run), 13, 4) || '-' || substr(hex(f.run), 17, 4) || '-'
        || substr(hex(f.run), 21)) AS run,
    f.seq, record.key AS position, f.epoch,
    strftime('%Y-%m-%dT%H:%M:%fZ', f.at / 1000.0, 'unixepoch') AS at,
    record.value AS record
FROM provision_frames AS f
INNER JOIN provision_namespaces AS n ON n.ns = f.ns
CROSS JOIN json_each(f.body) AS record;

CREATE VIEW ledger_view AS
SELECT
    n.name AS namespace,
    lower(substr(hex(g.run), 1, 8) || '-' || substr(hex(g.run), 9, 4) || '-'
        || substr(hex(g.run), 13, 4) || '-' || substr(hex(g.run), 17, 4) || '-'
        || substr(hex(g.run), 21)) AS run,
    g.path, g.generation, g.idx AS position, g.tenant, g.provider, g.account, g.kind, g.name,
    g.external_id, g.origin, g.state, g.region, g.template,
    json_extract(g.cost, '$.milli') / 1000.0 AS cost,
    json_extract(g.cost, '$.currency') AS currency, json_extract(g.cost, '$.per') AS cost_per,
    g.suspect,
    strftime('%Y-%m-%dT%H:%M:%fZ', g.watch_at / 1000.0, 'unixepoch') AS watch_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', g.since / 1000.0, 'unixepoch') AS since,
    strftime('%Y-%m-%dT%H:%M:%fZ', g.until / 1000.0, 'unixepoch') AS until
FROM provision_ledger AS g
INNER JOIN provision_namespaces AS n ON n.ns = g.ns;
