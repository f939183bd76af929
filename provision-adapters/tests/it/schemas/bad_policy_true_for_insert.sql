-- Anonymous visitors may fill the table.
-- finds: policy_takes_all public.notes/anybody writes
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
grant insert on public.notes to anon;
create policy "anybody writes" on public.notes for insert to anon with check (true);
