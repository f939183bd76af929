-- Everything that holds or shows rows, in each schema the anonymous role can enter.
-- `public` is looked at even when it cannot: one later grant would open it.
select
    n.nspname::text as schema,
    c.relname::text as name,
    c.relkind::text as kind,
    c.relrowsecurity::text as row_security,
    c.relforcerowsecurity::text as forced,
    pg_get_userbyid(c.relowner)::text as owner,
    coalesce(array_to_string(c.reloptions, ','), '') as options,
    has_any_column_privilege({anonymous}, c.oid, 'SELECT')::text as anon_selects,
    (
        has_any_column_privilege({anonymous}, c.oid, 'INSERT')
        or has_any_column_privilege({anonymous}, c.oid, 'UPDATE')
        or has_table_privilege({anonymous}, c.oid, 'DELETE')
    )::text as anon_writes,
    has_table_privilege({anonymous}, c.oid, 'TRUNCATE')::text as anon_truncates
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f')
    and (n.nspname = 'public' or has_schema_privilege({anonymous}, n.oid, 'USAGE'))
    and n.nspname !~ '^pg_'
    and n.nspname not in ({provided})
order by 1, 2
