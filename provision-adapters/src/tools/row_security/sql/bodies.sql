-- Sources of the functions that are not the server's or the provider's own. One that was parsed when
-- it was made (`begin atomic`, `return`) has no source, and is printed whole.
select
    n.nspname::text as schema,
    p.proname::text as name,
    coalesce(nullif(p.prosrc, ''), pg_get_functiondef(p.oid)) as source
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where p.prokind = 'f'
    and n.nspname !~ '^pg_'
    and n.nspname not in ({provided})
order by 1, 2, 3
