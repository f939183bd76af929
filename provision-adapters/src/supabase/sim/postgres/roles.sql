-- The platform's roles. They belong to the whole server, so all projects share them, nothing of a
-- project may change them, and they stay. Nobody logs in as one of them.
do $$
declare
    wanted record;
begin
    for wanted in
        select * from (values
            ('anon', 'noinherit'),
            ('authenticated', 'noinherit'),
            ('service_role', 'noinherit bypassrls'),
            ('authenticator', 'noinherit'),
            ('supabase_admin', ''),
            ('supabase_auth_admin', 'noinherit'),
            ('supabase_storage_admin', 'noinherit'),
            ('supabase_read_only_user', 'bypassrls')
        ) as roles (name, attributes)
    loop
        if not exists (select from pg_catalog.pg_roles where rolname = wanted.name) then
            execute pg_catalog.format('create role %I nologin %s', wanted.name, wanted.attributes);
        end if;
    end loop;
end
$$;
grant anon, authenticated, service_role to authenticator
