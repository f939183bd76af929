-- A role, where it logs in or has a right of its own or of another role.
select r.rolname::text as name
from pg_roles r
where r.rolname::text = $1
    and (
        r.rolcanlogin or r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication
        or r.rolbypassrls
        or exists (select from pg_auth_members m where m.member = r.oid)
    )
