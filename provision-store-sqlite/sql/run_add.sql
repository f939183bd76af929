INSERT INTO provision_runs (
    ns, run, tenant, key, input, input_hash, parent_run, parent_path, context, created_at
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT (ns, run) DO NOTHING
