-- Signed-in owners see their rows; anonymous visitors nothing.
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes for all to authenticated using (auth.uid() = owner);
grant select, insert, update, delete on public.notes to authenticated;
create table public.profiles (id uuid primary key, full_name text);
alter table public.profiles enable row level security;
create policy "own profile" on public.profiles for select to authenticated using (auth.uid() = id);
grant select on public.profiles to authenticated;
create view public.my_notes with (security_invoker = true) as select id, body from public.notes;
grant select on public.my_notes to authenticated;
