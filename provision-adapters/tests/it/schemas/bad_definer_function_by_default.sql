-- Nothing was granted: everybody may call a new function.
-- finds: definer_function public.note_count()
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes for all to authenticated using (auth.uid() = owner);
create function public.note_count() returns bigint
    language sql stable security definer set search_path = ''
    as $$ select count(*) from public.notes $$;
