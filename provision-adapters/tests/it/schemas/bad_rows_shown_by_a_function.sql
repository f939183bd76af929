-- A condition that asks through a function is believed, until it shows a row.
-- finds: read_rows public.notes
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create function public.may_see(note uuid) returns boolean
    language sql stable as $$ select note is not null $$;
create policy "through a function" on public.notes for select using (public.may_see(id));
grant select on public.notes to anon;
insert into public.notes (owner, body) values (gen_random_uuid(), 'seed');
