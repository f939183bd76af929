-- Functions can be called by everybody unless that is revoked.
-- finds: definer_function public.all_notes()
-- finds: function_rows public.all_notes()
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes for all to authenticated using (auth.uid() = owner);
create function public.all_notes() returns setof public.notes
    language sql stable security definer set search_path = ''
    as $$ select * from public.notes $$;
grant execute on function public.all_notes() to anon;
