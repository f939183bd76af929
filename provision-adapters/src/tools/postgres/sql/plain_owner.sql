-- A role that owns what tenants' code is made of: that code runs with its rights, so it has none
-- beyond what it owns.
do $provision$
begin
    if exists (
        select from pg_roles r
        where r.rolname = $owner
            and (
                r.rolsuper or r.rolcreaterole or r.rolname = current_user
                or exists (
                    select from pg_auth_members m
                    join pg_roles g on g.oid = m.roleid
                    where m.member = r.oid
                        and (g.rolsuper or g.rolcreaterole or g.rolname ^@ 'pg_')
                )
            )
    ) then
        raise exception using
            errcode = 'PV004', message = 'the owner of the schema has rights beyond it';
    end if;
end
$provision$;
