INSERT INTO provision.ledger (
    ns, run, path, generation, idx, tenant, provider, account, kind, name, external_id, origin,
    state, region, template, cost, suspect, watch_at, since, until
)
SELECT * FROM unnest(
    $1::integer[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
    $15::text[], $16::text[], $17::boolean[], $18::bigint[], $19::bigint[], $20::bigint[]
)
ON CONFLICT (ns, run, path, generation, idx) DO UPDATE
SET tenant = excluded.tenant, provider = excluded.provider, account = excluded.account,
    kind = excluded.kind, name = excluded.name, external_id = excluded.external_id,
    origin = excluded.origin, state = excluded.state, region = excluded.region,
    template = excluded.template, cost = excluded.cost, suspect = excluded.suspect,
    watch_at = excluded.watch_at, since = excluded.since, until = excluded.until
