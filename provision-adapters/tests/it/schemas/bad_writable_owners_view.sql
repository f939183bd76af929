-- Nothing can be read, and rows can be added as the owner.
-- finds: owners_view public.all_notes
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create view public.all_notes as select id, owner, body from public.notes;
grant insert on public.all_notes to anon;
