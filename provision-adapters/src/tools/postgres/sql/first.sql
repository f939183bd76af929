-- Runs before what a schema is made of, in its transaction: functions are closed until they are
-- granted, and the record of migrations is out of reach of everybody else.
create schema if not exists provision;
create table if not exists provision.migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
);
alter table provision.migrations enable row level security;
alter default privileges revoke execute on functions from public;
