-- What `postgres` is in a real project: no superuser, but its row security does not hold it. Unlike
-- there it makes no roles: they would outlive the project, and reach into others.
do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = '{owner}') then
        create role {owner} login nocreatedb nocreaterole bypassrls;
    end if;
end
$$;
alter role {owner} password {password};
grant anon, authenticated, service_role to {owner}
