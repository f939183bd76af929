-- A condition calls a function the anonymous role could not name itself.
-- finds: policy_shows_all public.notes/everybody
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create schema private;
create function private.everybody() returns boolean language sql stable as $$ select true $$;
create policy everybody on public.notes for select using (private.everybody());
grant select on public.notes to anon;
