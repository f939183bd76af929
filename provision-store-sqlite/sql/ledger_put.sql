INSERT OR REPLACE INTO provision_ledger (
    ns, run, path, generation, idx, tenant, provider, account, kind, name, external_id, origin,
    state, region, template, cost, suspect, watch_at, since, until
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20
)
