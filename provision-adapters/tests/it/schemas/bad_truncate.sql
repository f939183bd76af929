-- Row-level security does not filter TRUNCATE.
-- finds: truncates public.notes
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes for all to authenticated using (auth.uid() = owner);
grant all on public.notes to anon;
