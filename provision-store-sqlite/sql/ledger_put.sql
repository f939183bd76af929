INSERT INTO provision_ledger (
    ns, run, path, generation, idx, tenant, provider, account, kind, name, external_id, origin,
    state, region, template, cost, suspect, watch_at, since, until
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20
)
ON CONFLICT (ns, run, path, generation, idx) DO UPDATE
SET tenant = excluded.tenant, provider = excluded.provider, account = excluded.account,
    kind = excluded.kind, name = excluded.name, external_id = excluded.external_id,
    origin = excluded.origin, state = excluded.state, region = excluded.region,
    template = excluded.template, cost = excluded.cost, suspect = excluded.suspect,
    watch_at = excluded.watch_at, since = excluded.since, until = excluded.until
