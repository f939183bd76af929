-- The role ignores row-level security altogether.
-- finds: role_bypasses anon
-- finds: read_unfiltered public.notes
-- or refused: 42501
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes for all to authenticated using (auth.uid() = owner);
grant select on public.notes to anon;
alter role anon bypassrls;
