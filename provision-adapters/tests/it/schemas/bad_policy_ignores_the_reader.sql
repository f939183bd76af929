-- The condition looks at the row and not at who asks.
-- finds: policy_shows_all public.notes/written
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
grant select on public.notes to anon;
create policy written on public.notes for select using (body is not null);
