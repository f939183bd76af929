-- The outer view asks as the reader, the inner one as its owner.
-- finds: owners_view public.inner_notes
-- finds: read_unfiltered public.outer_notes
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create view public.inner_notes as select id, body from public.notes;
create view public.outer_notes with (security_invoker = true) as select id, body from public.inner_notes;
grant select on public.inner_notes, public.outer_notes to anon;
