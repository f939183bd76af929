-- Runs that were removed: what stays of one is its row here, without its input, tenant and parent,
-- so that its start key stays taken. These columns are empty as long as the run is there.
ALTER TABLE provision.runs
ADD COLUMN pruned_saga text COLLATE "C",
ADD COLUMN pruned_version bigint,
ADD COLUMN pruned_status text,
ADD COLUMN ended_at bigint,
ADD COLUMN pruned_at bigint;
CREATE INDEX runs_ended ON provision.runs (ns, ended_at) WHERE ended_at IS NOT NULL;
-- Start keys of runs that are there, and of those that were removed, apart: a listing by keys meets
-- no tombstone, and the last tombstone of a schedule is found without a walk.
CREATE INDEX runs_key_here ON provision.runs (ns, key)
WHERE key IS NOT NULL AND ended_at IS NULL;
CREATE INDEX runs_key_gone ON provision.runs (ns, key)
WHERE key IS NOT NULL AND ended_at IS NOT NULL;

-- A run and those below it, in the order of their ids, and no more than so many.
CREATE FUNCTION provision.prune_family(p_ns integer, p_run uuid, p_most integer) RETURNS uuid[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ARRAY(
        SELECT x.run FROM (
            WITH RECURSIVE family (run) AS (
                SELECT p_run
                UNION
                SELECT r.run FROM family AS f
                INNER JOIN provision.runs AS r ON r.ns = p_ns AND r.parent_run = f.run
            )
            SELECT f.run FROM family AS f LIMIT p_most
        ) AS x
        ORDER BY x.run
    );
END
$$;

-- Whether one of these runs, or anything that it has made, is not over and done with.
CREATE FUNCTION provision.prune_stays(
    p_ns integer, p_runs uuid[], p_before bigint, p_succeeded boolean, p_letters boolean
) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM unnest(p_runs) AS f (run)
        INNER JOIN provision.heads AS h ON h.ns = p_ns AND h.run = f.run
        WHERE NOT (
                h.status IN ('RolledBack', 'TornDown')
                OR (p_succeeded
                    AND h.status IN ('Succeeded', 'PartlySucceeded', 'RolledBackKeeping'))
            )
            OR h.owner IS NOT NULL OR h.due < 9223372036854775807 OR h.guard IS NOT NULL
            OR h.updated_at >= p_before OR (h.dead_letter AND NOT p_letters)
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
            )
    );
END
$$;

-- Leaves of a run its tombstone alone.
CREATE FUNCTION provision.prune_entomb(p_ns integer, p_run uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE provision.runs AS r
    SET input = '', context = '', tenant = NULL, parent_run = NULL, parent_path = NULL,
        pruned_saga = l.saga, pruned_version = l.version, pruned_status = h.status,
        ended_at = h.updated_at, pruned_at = m.now
    FROM provision.heads AS h
    INNER JOIN provision.lanes AS l ON l.lane = h.lane
    CROSS JOIN provision.moment AS m
    WHERE r.ns = p_ns AND r.run = p_run AND h.ns = p_ns AND h.run = p_run;
    DELETE FROM provision.secrets AS t WHERE t.ns = p_ns AND t.scope = p_run::text;
    DELETE FROM provision.frames AS t WHERE t.ns = p_ns AND t.run = p_run;
    DELETE FROM provision.requests AS t WHERE t.ns = p_ns AND t.run = p_run;
    -- One that a worker without a lease wrote down this moment is nobody's yet, and stays.
    DELETE FROM provision.sightings AS t
    WHERE t.ns = p_ns AND t.run = p_run AND EXISTS (
        SELECT FROM provision.ledger AS l
        WHERE l.ns = p_ns AND l.run = p_run AND l.path = t.path AND l.external_id = t.external_id
    );
    DELETE FROM provision.ledger AS t WHERE t.ns = p_ns AND t.run = p_run;
    DELETE FROM provision.heads AS t WHERE t.ns = p_ns AND t.run = p_run;
END
$$;

-- Removes runs that are over, each whole or not at all, in one step of a walk by their ids: the one
-- way in which a journal can be removed. It runs with the rights of its owner, and judges by itself
-- whether a run may go; it does not take the bounds of its steps from who calls it beyond those that
-- the store has. Who holds a run, or is about to start one under its key, is passed over.
CREATE FUNCTION provision.prune(
    p_ns integer, p_after uuid, p_before bigint, p_succeeded boolean, p_letters boolean,
    p_most integer, p_looks integer, p_family integer, p_frames bigint, p_dry boolean
) RETURNS TABLE (removed uuid[], next_run uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c_never CONSTANT bigint := 9223372036854775807;
    v_most integer := least(greatest(p_most, 1), 1000);
    v_looks integer := least(greatest(p_looks, 1), 1000);
    v_most_below integer := least(greatest(p_family, 1), 1000);
    v_frames_max bigint := least(greatest(p_frames, 1), 2000);
    v_run uuid;
    v_seq bigint;
    v_may_go boolean;
    v_looked integer := 0;
    v_frames bigint := 0;
    v_runs uuid[] := '{}';
    v_family uuid[];
    v_locked integer;
    v_last uuid;
    v_next uuid;
BEGIN
    -- What is judged behind a lock must be what is there by then.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'runs are removed in transactions that are read committed'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    FOR v_run, v_seq, v_may_go IN
        SELECT h.run, h.seq,
            (h.status IN ('RolledBack', 'TornDown')
                OR (p_succeeded
                    AND h.status IN ('Succeeded', 'PartlySucceeded', 'RolledBackKeeping')))
            AND h.owner IS NULL AND h.due = c_never AND h.guard IS NULL
            AND h.updated_at < p_before AND (p_letters OR NOT h.dead_letter)
        FROM provision.heads AS h
        WHERE h.ns = p_ns AND h.run > p_after ORDER BY h.run LIMIT v_looks + 1
    LOOP
        IF v_looked >= v_looks OR cardinality(v_runs) >= v_most OR v_frames >= v_frames_max THEN
            v_next := v_last;
            EXIT;
        END IF;
        v_looked := v_looked + 1;
        v_last := v_run;
        CONTINUE WHEN NOT v_may_go;
        -- S1: it, and every run below it, is over and has nothing left; its own parent is gone.
        -- Nothing is locked before that: most old runs stay.
        PERFORM FROM provision.runs AS r
        INNER JOIN provision.heads AS p ON p.ns = r.ns AND p.run = r.parent_run
        WHERE r.ns = p_ns AND r.run = v_run;
        CONTINUE WHEN FOUND;
        v_family := provision.prune_family(p_ns, v_run, v_most_below + 1);
        v_looked := v_looked + cardinality(v_family) - 1;
        CONTINUE WHEN cardinality(v_family) > v_most_below
            OR provision.prune_stays(p_ns, v_family, p_before, p_succeeded, p_letters);
        IF NOT p_dry THEN
            -- Judged once more, when nobody can change it any more.
            SELECT count(*) INTO v_locked FROM (
                SELECT h.run FROM provision.heads AS h
                WHERE h.ns = p_ns AND h.run = ANY (v_family) ORDER BY h.run
                FOR UPDATE SKIP LOCKED
            ) AS x;
            CONTINUE WHEN v_locked < cardinality(v_family);
            -- A start takes the same lock before it looks for its key.
            PERFORM FROM provision.runs AS r
            WHERE r.ns = p_ns AND r.run = v_run AND r.key IS NOT NULL
                AND NOT pg_try_advisory_xact_lock(
                    hashtextextended('provision.key:' || r.ns || ':' || r.key, 0)
                );
            CONTINUE WHEN FOUND;
            CONTINUE WHEN v_family <> provision.prune_family(p_ns, v_run, v_most_below + 1)
                OR provision.prune_stays(p_ns, v_family, p_before, p_succeeded, p_letters);
            PERFORM provision.prune_entomb(p_ns, v_run);
        END IF;
        v_runs := v_runs || v_run;
        v_frames := v_frames + v_seq;
    END LOOP;
    RETURN QUERY SELECT v_runs, v_next;
END
$$;

-- Forgets runs that were removed, those that ended first; their start keys are free then. What a
-- start looks for at this moment is passed over, and no start waits for what is.
CREATE FUNCTION provision.forget(p_ns integer, p_before bigint, p_most bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_count bigint;
BEGIN
    WITH old AS MATERIALIZED (
        SELECT x.run, x.key FROM provision.runs AS x
        WHERE x.ns = p_ns AND x.ended_at IS NOT NULL AND x.ended_at < p_before
        ORDER BY x.ended_at LIMIT least(greatest(p_most, 0), 1000)
        FOR UPDATE SKIP LOCKED
    ),
    free AS MATERIALIZED (
        SELECT o.run FROM old AS o
        WHERE o.key IS NULL OR pg_try_advisory_xact_lock(
            hashtextextended('provision.key:' || p_ns || ':' || o.key, 0)
        )
    )
    DELETE FROM provision.runs AS r USING free AS f WHERE r.ns = p_ns AND r.run = f.run;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$$;

-- A function may be called by everybody, unless it is said otherwise.
REVOKE ALL ON FUNCTION provision.prune_family(integer, uuid, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION provision.prune_stays(
    integer, uuid[], bigint, boolean, boolean
) FROM PUBLIC;
REVOKE ALL ON FUNCTION provision.prune_entomb(integer, uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION provision.prune(
    integer, uuid, bigint, boolean, boolean, integer, integer, integer, bigint, boolean
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
