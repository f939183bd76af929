-- Anonymous visitors may change every row.
-- finds: policy_changes_all public.notes/anybody edits
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
grant select, update on public.notes to anon;
create policy "anybody edits" on public.notes for update to anon using (true);
