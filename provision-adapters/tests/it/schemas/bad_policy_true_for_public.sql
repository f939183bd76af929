-- Meant for the service role, which needs no policy: it opens the table to all others.
-- finds: policy_shows_all public.notes/service
-- finds: policy_changes_all public.notes/service
-- finds: policy_takes_all public.notes/service
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
grant select on public.notes to authenticated;
create policy service on public.notes using (true) with check (true);
