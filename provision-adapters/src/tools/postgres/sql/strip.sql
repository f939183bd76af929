-- Gives what a role owns in this database to the heir, and takes what it was granted. Who is no
-- superuser gives a function only to a role that may make it.
declare
    lent name[] := '{}';
    place name;
begin
    if not (select rolsuper from pg_roles where rolname = current_user) then
        lent := array(
            select nspname from pg_namespace
            where nspname !~ '^pg_' and nspname <> 'information_schema'
                and not has_schema_privilege($heir, oid, 'CREATE')
                and has_schema_privilege(current_user, oid, 'CREATE WITH GRANT OPTION')
        );
    end if;
    foreach place in array lent loop
        execute format('grant create on schema %I to %I', place, $heir);
    end loop;
    execute format('reassign owned by %I to %I', $role, $heir);
    foreach place in array lent loop
        execute format('revoke create on schema %I from %I', place, $heir);
    end loop;
end
