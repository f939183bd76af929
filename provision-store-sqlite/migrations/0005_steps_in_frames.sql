-- Frames lie in the order of their arrival: one commit dirties few pages, whatever runs it is of.
-- A step that changes nothing about its run but how far it is writes its frame alone; the frame
-- then says what the head would say, until the head is written again.
DROP VIEW dead_letters;
DROP VIEW runs_view;
DROP VIEW provision_run_rows;
DROP VIEW journal_view;

ALTER TABLE provision_frames RENAME TO provision_frames_before;
CREATE TABLE provision_frames (
    ns INTEGER NOT NULL,
    run BLOB NOT NULL,
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL,
    summary TEXT,
    open INTEGER,
    updated_at INTEGER
) STRICT;
INSERT INTO provision_frames (ns, run, seq, epoch, at, body)
SELECT ns, run, seq, epoch, at, body FROM provision_frames_before ORDER BY at, run, seq;
DROP TABLE provision_frames_before;
CREATE UNIQUE INDEX provision_frames_order ON provision_frames (ns, run, seq);

-- Everything about a run in the order in which the store reads it.
CREATE VIEW provision_run_rows AS
SELECT
    h.ns, h.run, l.saga, l.version, l.fingerprint, r.tenant, l.queue, h.priority, r.key, h.guard,
    h.guard_until, r.input, r.input_hash, r.parent_run, r.parent_path, r.context, h.status, h.due,
    h.polls, ifnull(f.seq, h.seq) AS seq, h.epoch, h.owner, h.requests, h.consumed,
    ifnull(f.open, h.open) AS open, h.deaths, ifnull(f.summary, h.summary) AS summary,
    r.created_at, max(h.updated_at, ifnull(f.updated_at, 0)) AS updated_at, h.died_at,
    h.dead_letter
FROM provision_heads AS h
CROSS JOIN provision_runs AS r ON r.ns = h.ns AND r.run = h.run
CROSS JOIN provision_lanes AS l ON l.lane = h.lane
LEFT JOIN provision_frames AS f ON f.ns = h.ns AND f.run = h.run AND f.seq > h.seq
    AND f.seq = (
        SELECT max(last.seq) FROM provision_frames AS last
        WHERE last.ns = h.ns AND last.run = h.run
    );

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
