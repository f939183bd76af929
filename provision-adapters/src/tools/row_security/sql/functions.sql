-- Functions, aggregates and window functions the anonymous role may call. Trigger functions cannot
-- be called.
select
    n.nspname::text as schema,
    p.proname::text as name,
    pg_get_function_identity_arguments(p.oid) as arguments,
    p.prokind::text as kind,
    p.prosecdef::text as definer,
    p.proretset::text as returns_set,
    (p.pronargs - p.pronargdefaults)::text as arguments_required
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where p.prokind in ('f', 'p', 'a', 'w')
    and has_function_privilege({anonymous}, p.oid, 'EXECUTE')
    and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
    and (n.nspname = 'public' or has_schema_privilege({anonymous}, n.oid, 'USAGE'))
    and n.nspname !~ '^pg_'
    and n.nspname not in ({provided})
order by 1, 2, 3
