-- Row-level security is on for every table, whatever its name. Nothing that a tenant has made is
-- looked up by these statements, which have all rights.
set local search_path = pg_catalog, pg_temp;
do $provision$
declare
    found record;
begin
    -- A role that is no superuser treats the tables of those alone whose member it is, and a member of
    -- the schema's owner may have made some. Nobody is joined of whose tables none is altered below:
    -- he may be somebody whose member it must not become.
    for found in
        select distinct r.rolname as owner
        from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        join pg_catalog.pg_roles r on r.oid = c.relowner
        where c.relkind in ('r', 'p')
            and (c.relpersistence <> 't' or n.oid = pg_catalog.pg_my_temp_schema())
            and n.nspname not in ('pg_catalog', 'pg_toast', 'information_schema')
            and (
                not c.relrowsecurity and c.relpersistence <> 't'
                or exists (
                    select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and t.tgdeferrable
                )
            )
            and not r.rolsuper
            and not pg_catalog.pg_has_role(current_user, r.oid, 'USAGE')
    loop
        begin
            execute pg_catalog.format('grant %I to current_user', found.owner);
        exception when unique_violation then
            -- It has become one in this very moment.
            null;
        end;
    end loop;
    for found in
        select n.nspname as schema, c.relname as name
        from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p')
            and not c.relrowsecurity
            and c.relpersistence <> 't'
            and n.nspname !~ '^pg_'
            and n.nspname <> 'information_schema'
    loop
        execute pg_catalog.format(
            'alter table %I.%I enable row level security', found.schema, found.name
        );
    end loop;
end
$provision$;
-- What is put off to the commit would run with the rights of the connection. Every piece has done what
-- it put off; a trigger that then puts off something more is refused: a table that waits for its
-- triggers cannot be altered.
do $provision$
declare
    found record;
begin
    for found in
        select n.nspname as schema, c.relname as name
        from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p')
            and (c.relpersistence <> 't' or n.oid = pg_catalog.pg_my_temp_schema())
            and n.nspname <> 'information_schema'
            and exists (
                select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and t.tgdeferrable
            )
    loop
        begin
            execute pg_catalog.format(
                'alter table %I.%I enable row level security', found.schema, found.name
            );
        exception when object_in_use then
            raise exception using
                errcode = 'PV002', message = 'a trigger put off its work beyond its migration';
        end;
    end loop;
end
$provision$;
