-- It cannot be called without an argument, and is open all the same.
-- finds: definer_function public.note_body(note uuid)
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes for all to authenticated using (auth.uid() = owner);
create function public.note_body(note uuid) returns text
    language sql stable security definer set search_path = ''
    as $$ select body from public.notes where id = note $$;
grant execute on function public.note_body(uuid) to anon;
