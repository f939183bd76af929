-- A materialized view holds its rows outside of row-level security.
-- finds: materialized_view public.note_bodies
-- finds: read_unfiltered public.note_bodies
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes for all to authenticated using (auth.uid() = owner);
create materialized view public.note_bodies as select body from public.notes;
grant select on public.note_bodies to anon;
