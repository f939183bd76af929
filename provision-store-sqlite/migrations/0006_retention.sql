-- Runs that were removed: what stays of one is its row here, without its input, tenant and parent,
-- so that its start key stays taken. These columns are empty as long as the run is there.
ALTER TABLE provision_runs ADD COLUMN pruned_saga TEXT;
ALTER TABLE provision_runs ADD COLUMN pruned_version INTEGER;
ALTER TABLE provision_runs ADD COLUMN pruned_status TEXT;
ALTER TABLE provision_runs ADD COLUMN ended_at INTEGER;
ALTER TABLE provision_runs ADD COLUMN pruned_at INTEGER;
CREATE INDEX provision_runs_ended ON provision_runs (ns, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX provision_runs_key_gone ON provision_runs (ns, key)
WHERE ended_at IS NOT NULL AND key IS NOT NULL;

-- For people and other programs.
CREATE VIEW tombstones_view AS
SELECT
    n.name AS namespace,
    lower(substr(hex(r.run), 1, 8) || '-' || substr(hex(r.run), 9, 4) || '-'
        || substr(hex(r.run), 13, 4) || '-' || substr(hex(r.run), 17, 4) || '-'
        || substr(hex(r.run), 21)) AS run,
    r.key, r.pruned_saga AS saga, r.pruned_version AS version, r.pruned_status AS status,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.created_at / 1000.0, 'unixepoch') AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.ended_at / 1000.0, 'unixepoch') AS ended_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.pruned_at / 1000.0, 'unixepoch') AS pruned_at
FROM provision_runs AS r
INNER JOIN provision_namespaces AS n ON n.ns = r.ns
WHERE r.ended_at IS NOT NULL;
