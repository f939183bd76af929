-- What the server is like, and what this role may do there; nothing is written.
SELECT
    current_setting('server_version_num')::integer,
    current_setting('fsync'), current_setting('full_page_writes'),
    current_setting('synchronous_commit'),
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',
    current_setting('default_transaction_isolation'),
    current_setting('server_encoding'),
    EXISTS (SELECT FROM pg_namespace WHERE nspname = $1),
    coalesce((
        SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = $1
    ), has_database_privilege(current_database(), 'CREATE')),
    coalesce((
        SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1
    ), has_database_privilege(current_database(), 'CREATE')),
    to_regclass(format('%I.migrations', $1)) IS NOT NULL,
    -- Rights that this role lacks on tables that are there.
    (
        SELECT string_agg(p.privilege || ' on ' || t.name, ', ' ORDER BY t.name, p.privilege)
        FROM (VALUES
            ('namespaces', 'SELECT INSERT'),
            ('clock', 'SELECT UPDATE'),
            ('lanes', 'SELECT INSERT'),
            ('runs', 'SELECT INSERT'),
            ('heads', 'SELECT INSERT UPDATE'),
            ('frames', 'SELECT INSERT'),
            ('requests', 'SELECT INSERT DELETE'),
            ('incarnations', 'SELECT INSERT UPDATE DELETE'),
            ('ledger', 'SELECT INSERT UPDATE'),
            ('sightings', 'SELECT INSERT'),
            ('secrets', 'SELECT INSERT UPDATE DELETE'),
            ('buckets', 'SELECT INSERT UPDATE DELETE'),
            ('migrations', 'SELECT'),
            ('moment', 'SELECT'),
            ('run_rows', 'SELECT')
        ) AS t (name, privileges)
        CROSS JOIN unnest(string_to_array(t.privileges, ' ')) AS p (privilege)
        WHERE NOT has_table_privilege(to_regclass(format('%I.%I', $1, t.name)), p.privilege)
    )
