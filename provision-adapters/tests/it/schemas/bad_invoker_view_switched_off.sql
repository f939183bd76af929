-- A view that lost its security_invoker.
-- finds: owners_view public.all_notes
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create view public.all_notes with (security_invoker = true) as select id, body from public.notes;
grant select on public.all_notes to anon;
alter view public.all_notes set (security_invoker = false);
