-- Makes the role that gets what another one owned. One of its name may be there, from an earlier
-- database or attempt: it has no right of its own or of another role.
begin
    begin
        execute format(
            'create role %I nosuperuser nocreatedb nocreaterole noinherit nologin noreplication '
            'nobypassrls', $heir
        );
    exception when duplicate_object or unique_violation then null;
    end;
    if exists (
        select from pg_roles r
        where r.rolname = $heir
            and (
                r.rolcanlogin or r.rolsuper or r.rolcreaterole or r.rolcreatedb
                or r.rolreplication or r.rolbypassrls
                or exists (select from pg_auth_members m where m.member = r.oid)
            )
    ) then
        raise exception using errcode = 'PV005', message = 'the heir has rights';
    end if;
end
