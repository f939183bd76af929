-- Runs before what a schema is made of, in its transaction: functions are closed until they are
-- granted, and the record of migrations is out of reach of everybody else.
-- Nothing that a tenant has made is looked up by these statements, which have all rights.
set local search_path = pg_catalog, pg_temp;
create schema if not exists provision;
create table if not exists provision.migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
);
alter table provision.migrations enable row level security;
do $provision$
begin
    -- Servers before 15 let everybody put functions there.
    if exists (
        select from pg_namespace
        where nspname = 'public' and has_schema_privilege('public', oid, 'CREATE')
    ) then
        revoke create on schema public from public;
    end if;
end
$provision$;
alter default privileges revoke execute on functions from public;
