-- The condition asks, and is content with nobody.
-- finds: policy_shows_all public.notes/own or nobody
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
grant select on public.notes to anon;
create policy "own or nobody" on public.notes for select using (auth.uid() is null or auth.uid() = owner);
