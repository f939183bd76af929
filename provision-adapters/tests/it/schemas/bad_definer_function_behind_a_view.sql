-- The function is in a closed schema, and the view calls it for everybody.
-- finds: read_unfiltered public.all_notes
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes for all to authenticated using (auth.uid() = owner);
create schema private;
create function private.all_notes() returns setof public.notes
    language sql stable security definer set search_path = ''
    as $$ select * from public.notes $$;
create view public.all_notes with (security_invoker = true) as select body from private.all_notes();
grant select on public.all_notes to anon;
