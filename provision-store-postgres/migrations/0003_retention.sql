-- Runs that were removed: what stays of one is its row here, without its input, tenant and parent,
-- so that its start key stays taken. These columns are empty as long as the run is there.
ALTER TABLE provision.runs
ADD COLUMN pruned_saga text COLLATE "C",
ADD COLUMN pruned_version bigint,
ADD COLUMN pruned_status text,
ADD COLUMN ended_at bigint,
ADD COLUMN pruned_at bigint;
CREATE INDEX runs_ended ON provision.runs (ns, ended_at) WHERE ended_at IS NOT NULL;

-- Removes runs that are over, each whole or not at all, in one step of a walk by their ids: the one
-- way in which a journal can be removed. It runs with the rights of its owner, and judges by itself
-- whether a run may go. Who holds a run, or is about to start one under its key, is passed over.
CREATE FUNCTION provision.prune(
    p_ns integer, p_after uuid, p_before bigint, p_letters boolean, p_most integer,
    p_looks integer, p_frames bigint, p_dry boolean
) RETURNS TABLE (removed uuid[], next_run uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c_ends CONSTANT text[] := ARRAY[
        'Succeeded', 'PartlySucceeded', 'RolledBack', 'RolledBackKeeping', 'TornDown'
    ];
    c_never CONSTANT bigint := 9223372036854775807;
    v_run uuid;
    v_seq bigint;
    v_frames bigint := 0;
    v_runs uuid[] := '{}';
    v_last uuid;
BEGIN
    SELECT h.run INTO v_last FROM provision.heads AS h
    WHERE h.ns = p_ns AND h.run > p_after ORDER BY h.run OFFSET p_looks - 1 LIMIT 1;
    FOR v_run, v_seq IN
        SELECT x.run, x.seq
        FROM (
            SELECT h.* FROM provision.heads AS h
            WHERE h.ns = p_ns AND h.run > p_after ORDER BY h.run LIMIT p_looks
        ) AS x
        WHERE x.status = ANY (c_ends) AND x.owner IS NULL AND x.due = c_never
            AND x.guard IS NULL AND x.updated_at < p_before AND (p_letters OR NOT x.dead_letter)
        ORDER BY x.run
    LOOP
        IF NOT p_dry THEN
            PERFORM FROM provision.heads AS h
            WHERE h.ns = p_ns AND h.run = v_run AND h.updated_at < p_before
                AND (p_letters OR NOT h.dead_letter)
            FOR UPDATE SKIP LOCKED;
            CONTINUE WHEN NOT FOUND;
            -- A start takes the same lock before it looks for its key.
            PERFORM FROM provision.runs AS r
            WHERE r.ns = p_ns AND r.run = v_run AND r.key IS NOT NULL
                AND NOT pg_try_advisory_xact_lock(
                    hashtextextended('provision.key:' || r.ns || ':' || r.key, 0)
                );
            CONTINUE WHEN FOUND;
        END IF;
        -- S1: it, and every run below it, is over and has nothing left; its own parent is gone.
        PERFORM FROM provision.runs AS r
        INNER JOIN provision.heads AS p ON p.ns = r.ns AND p.run = r.parent_run
        WHERE r.ns = p_ns AND r.run = v_run;
        CONTINUE WHEN FOUND;
        PERFORM FROM (
            WITH RECURSIVE family (run) AS (
                SELECT v_run
                UNION
                SELECT r.run FROM family AS f
                INNER JOIN provision.runs AS r ON r.ns = p_ns AND r.parent_run = f.run
            )
            SELECT f.run FROM family AS f
        ) AS f
        INNER JOIN provision.heads AS h ON h.ns = p_ns AND h.run = f.run
        WHERE h.status <> ALL (c_ends) OR h.owner IS NOT NULL OR h.due < c_never
            OR h.guard IS NOT NULL
            OR EXISTS (
                SELECT FROM provision.ledger AS l
                WHERE l.ns = p_ns AND l.run = f.run
                    AND (l.state <> 'gone' OR l.watch_at IS NOT NULL)
            )
            OR EXISTS (
                SELECT FROM provision.sightings AS s
                WHERE s.ns = p_ns AND s.run = f.run AND NOT EXISTS (
                    SELECT FROM provision.ledger AS l
                    WHERE l.ns = p_ns AND l.run = s.run AND l.path = s.path
                        AND l.external_id = s.external_id
                )
            );
        CONTINUE WHEN FOUND;
        v_runs := v_runs || v_run;
        v_frames := v_frames + v_seq;
        IF NOT p_dry THEN
            UPDATE provision.runs AS r
            SET input = '', context = '', tenant = NULL, parent_run = NULL, parent_path = NULL,
                pruned_saga = l.saga, pruned_version = l.version, pruned_status = h.status,
                ended_at = h.updated_at, pruned_at = m.now
            FROM provision.heads AS h
            INNER JOIN provision.lanes AS l ON l.lane = h.lane
            CROSS JOIN provision.moment AS m
            WHERE r.ns = p_ns AND r.run = v_run AND h.ns = p_ns AND h.run = v_run;
            DELETE FROM provision.secrets AS t WHERE t.ns = p_ns AND t.scope = v_run::text;
            DELETE FROM provision.frames AS t WHERE t.ns = p_ns AND t.run = v_run;
            DELETE FROM provision.requests AS t WHERE t.ns = p_ns AND t.run = v_run;
            DELETE FROM provision.ledger AS t WHERE t.ns = p_ns AND t.run = v_run;
            DELETE FROM provision.sightings AS t WHERE t.ns = p_ns AND t.run = v_run;
            DELETE FROM provision.heads AS t WHERE t.ns = p_ns AND t.run = v_run;
        END IF;
        IF cardinality(v_runs) >= p_most OR v_frames >= p_frames THEN
            v_last := v_run;
            EXIT;
        END IF;
    END LOOP;
    RETURN QUERY SELECT v_runs, v_last;
END
$$;

-- Forgets runs that were removed, those that ended first; their start keys are free then.
CREATE FUNCTION provision.forget(p_ns integer, p_before bigint, p_most bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_count bigint;
BEGIN
    DELETE FROM provision.runs AS r
    WHERE r.ns = p_ns AND r.ended_at IS NOT NULL AND r.run = ANY (ARRAY(
        SELECT x.run FROM provision.runs AS x
        WHERE x.ns = p_ns AND x.ended_at IS NOT NULL AND x.ended_at < p_before
        ORDER BY x.ended_at LIMIT p_most
    ));
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$$;

-- A function may be called by everybody, unless it is said otherwise.
REVOKE ALL ON FUNCTION provision.prune(
    integer, uuid, bigint, boolean, integer, integer, bigint, boolean
) FROM PUBLIC;
REVOKE ALL ON FUNCTION provision.forget(integer, bigint, bigint) FROM PUBLIC;

-- For people and other programs. Columns are only ever added.
CREATE VIEW provision.tombstones_view AS
SELECT
    n.name AS namespace, r.run, r.key, r.pruned_saga AS saga, r.pruned_version AS version,
    r.pruned_status AS status, to_timestamp(r.created_at / 1000.0) AS created_at,
    to_timestamp(r.ended_at / 1000.0) AS ended_at, to_timestamp(r.pruned_at / 1000.0) AS pruned_at
FROM provision.runs AS r
INNER JOIN provision.namespaces AS n ON n.ns = r.ns
WHERE r.ended_at IS NOT NULL;
