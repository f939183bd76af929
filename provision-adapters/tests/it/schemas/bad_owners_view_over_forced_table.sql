-- Forcing row-level security does not hold an owner who bypasses it.
-- finds: owners_view public.all_notes
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
alter table public.notes force row level security;
create view public.all_notes as select id, body from public.notes;
grant select on public.all_notes to anon;
