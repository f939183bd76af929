-- What the anonymous role reaches besides rows: rules, which run with the rights of a relation's
-- owner; sequences that it may set back; and where it may make something of its own.
select
    'rule' as what,
    r.schemaname::text as schema,
    r.tablename::text as name,
    r.rulename::text as part
from pg_rules r
join pg_namespace n on n.nspname = r.schemaname
join pg_class c on c.relnamespace = n.oid and c.relname = r.tablename
where (
        has_any_column_privilege({anonymous}, c.oid, 'INSERT')
        or has_any_column_privilege({anonymous}, c.oid, 'UPDATE')
        or has_table_privilege({anonymous}, c.oid, 'DELETE')
    )
    and (n.nspname = 'public' or has_schema_privilege({anonymous}, n.oid, 'USAGE'))
    and n.nspname !~ '^pg_'
    and n.nspname not in ({provided})
union all
select 'sequence', n.nspname::text, c.relname::text, ''
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'S'
    and has_table_privilege({anonymous}, c.oid, 'UPDATE')
    and (n.nspname = 'public' or has_schema_privilege({anonymous}, n.oid, 'USAGE'))
    and n.nspname !~ '^pg_'
    and n.nspname not in ({provided})
union all
select 'schema', '', n.nspname::text, ''
from pg_namespace n
where has_schema_privilege({anonymous}, n.oid, 'CREATE')
    and n.nspname !~ '^pg_'
    and n.nspname not in ({provided})
union all
select 'database', '', current_database()::text, ''
where has_database_privilege({anonymous}, current_database(), 'CREATE')
order by 1, 2, 3, 4
