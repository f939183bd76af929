do $provision$
declare
    found record;
begin
    for found in
        select n.nspname as name
        from pg_catalog.pg_namespace n
        where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
            and not pg_catalog.has_schema_privilege({anonymous}, n.oid, 'USAGE')
    loop
        execute pg_catalog.format(
            'grant usage on schema %I to %I', found.name, {anonymous}
        );
    end loop;
end
$provision$;
