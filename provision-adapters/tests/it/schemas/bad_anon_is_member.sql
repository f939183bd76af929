-- The anonymous role has the rights of a role that reads everything.
-- finds: role_is_member note_reader
-- finds: role_bypasses note_reader
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes for all to authenticated using (auth.uid() = owner);
create role note_reader nologin bypassrls;
grant select on public.notes to note_reader;
grant note_reader to anon;
