-- Runs before the migrations, in their transaction: what they create is closed to anonymous
-- readers until they grant it by name. The record of migrations is out of reach of every API.
create schema if not exists provision;
create table if not exists provision.migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
);
alter table provision.migrations enable row level security;
alter default privileges in schema public revoke all on tables from anon;
alter default privileges in schema public revoke all on sequences from anon;
alter default privileges in schema public revoke execute on functions from anon;
