-- Opens every schema to the anonymous role, also those of which the executor is not a member of the
-- owner yet. It is over with the transaction, which is rolled back.
declare
    found record;
begin
    for found in
        select n.nspname as name, r.rolname as owner, r.rolsuper as super
        from pg_catalog.pg_namespace n
        join pg_catalog.pg_roles r on r.oid = n.nspowner
        where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
            and not pg_catalog.has_schema_privilege({anonymous}, n.oid, 'USAGE')
    loop
        if not found.super and not pg_catalog.pg_has_role(current_user, found.owner, 'USAGE') then
            execute pg_catalog.format('grant %I to current_user', found.owner);
        end if;
        execute pg_catalog.format(
            'grant usage on schema %I to %I', found.name, {anonymous}
        );
    end loop;
end
