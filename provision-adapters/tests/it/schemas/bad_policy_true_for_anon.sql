-- A policy that shows every row to anonymous readers.
-- finds: policy_shows_all public.notes/everybody reads
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
grant select on public.notes to anon;
create policy "everybody reads" on public.notes for select to anon using (true);
