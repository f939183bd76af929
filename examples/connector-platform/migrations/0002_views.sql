-- How the run of a job stands. The engine's tables are closed to tenants, so this reads with the
-- rights of its owner, and tells a tenant of its own runs alone.
CREATE FUNCTION connectors.current_tenant() RETURNS text
LANGUAGE sql STABLE
RETURN nullif(current_setting('connectors.tenant', true), '');
COMMENT ON FUNCTION connectors.current_tenant IS
'The tenant that `SET LOCAL connectors.tenant` names; nobody where it names none.';

CREATE FUNCTION connectors.run_of(
    p_run uuid,
    OUT status text, OUT due timestamptz, OUT failed_step text, OUT failed_code text,
    OUT failed_message text, OUT dead_letter boolean
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.status, r.due, r.failed_path, r.failed_code, r.failed_message, r.dead_letter
    FROM provision.runs_view AS r
    WHERE r.run = p_run AND (
        r.tenant = connectors.current_tenant()
        OR pg_has_role(
            CASE WHEN current_setting('role') = 'none' THEN session_user
            ELSE current_setting('role')::name END, 'connector_worker', 'USAGE'
        )
    )
$$;

CREATE FUNCTION connectors.queue_figures()
RETURNS TABLE (
    queue text, waiting bigint, delayed bigint, running bigint, dead_letters bigint,
    oldest_seconds double precision
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        q.queue,
        count(*) FILTER (WHERE r.status IN ('Running', 'Waiting', 'Unwinding')
            AND r.owner IS NULL AND r.due <= now()),
        count(*) FILTER (WHERE r.status IN ('Running', 'Waiting', 'Unwinding')
            AND r.owner IS NULL AND r.due > now()),
        count(*) FILTER (WHERE r.owner IS NOT NULL),
        count(*) FILTER (WHERE r.dead_letter),
        coalesce(extract(epoch FROM now() - min(r.due) FILTER (
            WHERE r.status IN ('Running', 'Waiting', 'Unwinding')
            AND r.owner IS NULL AND r.due <= now())), 0)::double precision
    FROM unnest(ARRAY['publish_jobs', 'health_checks', 'token_refresh']) AS q (queue)
    LEFT JOIN provision.runs_view AS r ON r.queue = q.queue
    GROUP BY q.queue
$$;

-- Views read with the rights of who asks, so the policies of their tables hold in them.
CREATE VIEW connectors.connections_requiring_attention WITH (security_invoker = true) AS
SELECT
    c.id, c.tenant_id, c.user_id, c.platform, c.account_name, c.token_expires_at, c.checked_at,
    CASE WHEN c.state = 'attention' THEN c.trouble ELSE 'token_expires_soon' END AS reason
FROM connectors.connections AS c
WHERE c.state = 'attention'
    OR (c.state = 'connected' AND c.token_expires_at < now() + interval '1 minute');
COMMENT ON VIEW connectors.connections_requiring_attention IS
'Connections that a person has to mend, and those whose token nobody has renewed in time.';

CREATE VIEW connectors.publish_jobs_pending_retry WITH (security_invoker = true) AS
SELECT
    j.id, j.tenant_id, j.connection_id, r.due AS next_attempt_at, e.step, e.attempt, e.code, e.message
FROM connectors.publish_jobs AS j
CROSS JOIN LATERAL connectors.run_of(j.run_id) AS r
INNER JOIN LATERAL (
    SELECT * FROM connectors.publish_job_errors AS x WHERE x.job_id = j.id
    ORDER BY x.id DESC LIMIT 1
) AS e ON true
WHERE j.state = 'queued' AND NOT coalesce(r.dead_letter, true);
COMMENT ON VIEW connectors.publish_jobs_pending_retry IS
'Jobs that failed and are tried again by themselves, and when.';

CREATE VIEW connectors.publish_jobs_dlq WITH (security_invoker = true) AS
SELECT
    j.id, j.tenant_id, j.connection_id, j.run_id, j.created_at, r.status, r.failed_step,
    r.failed_code, r.failed_message
FROM connectors.publish_jobs AS j
CROSS JOIN LATERAL connectors.run_of(j.run_id) AS r
WHERE r.dead_letter;
COMMENT ON VIEW connectors.publish_jobs_dlq IS
'Jobs that need a person: nothing moves them until somebody decides.';
