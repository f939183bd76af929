-- Signed-in owners see their notes; anonymous visitors see nothing. The step that applies this
-- proves it before it lets any key out.
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
grant select, insert on public.notes to authenticated;
create policy "own notes" on public.notes for all to authenticated using (auth.uid() = owner);
