-- Policies as the server prints them. With an empty search path every name in an expression that
-- is not the server's own comes with its schema.
select
    schemaname::text as schema,
    tablename::text as name,
    policyname::text as policy,
    permissive::text as permissive,
    array_to_string(roles, ',') as roles,
    cmd::text as command,
    qual as shows,
    with_check as takes
from pg_policies
where schemaname !~ '^pg_'
    and schemaname not in ({provided})
order by 1, 2, 3
