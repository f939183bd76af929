-- Connecting runs in the queue `default`, and a host may have queues of its own: all are counted.
CREATE OR REPLACE FUNCTION connectors.queue_figures()
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
    FROM (
        SELECT unnest(ARRAY['default', 'publish_jobs', 'health_checks', 'token_refresh'])
        UNION SELECT v.queue FROM provision.runs_view AS v
    ) AS q (queue)
    LEFT JOIN provision.runs_view AS r ON r.queue = q.queue
    GROUP BY q.queue
$$;
