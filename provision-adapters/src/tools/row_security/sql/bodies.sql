-- Sources of the functions that are not the server's or the provider's own.
select
    n.nspname::text as schema,
    p.proname::text as name,
    p.prosrc as source
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where p.prokind = 'f'
    and n.nspname !~ '^pg_'
    and n.nspname not in ({provided})
order by 1, 2, 3
