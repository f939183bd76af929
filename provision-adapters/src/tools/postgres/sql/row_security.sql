-- Row-level security is on for every table, whatever its name.
do $provision$
declare
    found record;
begin
    for found in
        select n.nspname as schema, c.relname as name
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p')
            and not c.relrowsecurity
            and c.relpersistence <> 't'
            and n.nspname !~ '^pg_'
            and n.nspname <> 'information_schema'
    loop
        execute format('alter table %I.%I enable row level security', found.schema, found.name);
    end loop;
end
$provision$;
