-- Three roles. The worker drives runs for all tenants; the tenant role is what a page of a tenant
-- reads as, after `SET LOCAL connectors.tenant`; the anonymous role sees nothing at all.
-- Roles belong to the whole server, and another database may make them at the same time.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['connector_worker', 'connector_tenant', 'connector_anonymous'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;

REVOKE ALL ON SCHEMA connectors FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA connectors FROM PUBLIC;
GRANT USAGE ON SCHEMA connectors TO connector_worker, connector_tenant;
GRANT EXECUTE ON FUNCTION connectors.current_tenant TO connector_worker, connector_tenant;
GRANT EXECUTE ON FUNCTION connectors.run_of TO connector_worker, connector_tenant;
GRANT EXECUTE ON FUNCTION connectors.queue_figures TO connector_worker;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA connectors TO connector_worker;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA connectors TO connector_worker;
-- What is a trail is added to, and nothing else; what only a deployment changes is read.
REVOKE UPDATE, DELETE ON connectors.connection_audit FROM connector_worker;
REVOKE INSERT, UPDATE, DELETE ON connectors.connector_platforms FROM connector_worker;

GRANT SELECT ON
connectors.connector_platforms, connectors.connections, connectors.publish_jobs,
connectors.connection_health_log, connectors.connection_audit, connectors.publish_job_analytics,
connectors.publish_job_errors, connectors.rate_limit_buckets,
connectors.connections_requiring_attention, connectors.publish_jobs_pending_retry,
connectors.publish_jobs_dlq
TO connector_tenant;

-- Row security on every table, for their owner, too. A table without a policy for a role is closed
-- to it, whatever it was granted.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT c.relname FROM pg_class AS c
        WHERE c.relnamespace = 'connectors'::regnamespace AND c.relkind = 'r'
    LOOP
        EXECUTE format('ALTER TABLE connectors.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE connectors.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY worker ON connectors.%I TO connector_worker USING (true) WITH CHECK (true)',
            name
        );
        EXECUTE format(
            'CREATE POLICY deployment ON connectors.%I TO CURRENT_USER USING (true) WITH CHECK (true)',
            name
        );
    END LOOP;
    FOREACH name IN ARRAY ARRAY[
        'connections', 'publish_jobs', 'connection_health_log', 'connection_audit',
        'publish_job_analytics', 'publish_job_errors', 'rate_limit_buckets'
    ] LOOP
        EXECUTE format(
            'CREATE POLICY tenant ON connectors.%I FOR SELECT TO connector_tenant '
            'USING (tenant_id = connectors.current_tenant())', name
        );
    END LOOP;
END
$$;
CREATE POLICY tenant ON connectors.connector_platforms FOR SELECT TO connector_tenant USING (true);

-- Whoever holds which rights: a line of the trail stays as it was written.
CREATE FUNCTION connectors.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is only added to' USING ERRCODE = 'insufficient_privilege';
END
$$;
REVOKE ALL ON FUNCTION connectors.refuse_change FROM PUBLIC;
CREATE TRIGGER connection_audit_is_final BEFORE UPDATE OR DELETE ON connectors.connection_audit
FOR EACH ROW EXECUTE FUNCTION connectors.refuse_change();
CREATE TRIGGER connection_audit_is_kept BEFORE TRUNCATE ON connectors.connection_audit
FOR EACH STATEMENT EXECUTE FUNCTION connectors.refuse_change();
