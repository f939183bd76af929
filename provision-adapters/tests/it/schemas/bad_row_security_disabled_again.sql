-- Switched on, and off again by a later statement.
-- finds: row_security_off public.notes
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes for all to authenticated using (auth.uid() = owner);
alter table public.notes disable row level security;
