-- Policies ask through a definer function in a schema no API shows.
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create schema private;
create table private.members (member uuid not null, note uuid not null);
create function private.is_member(wanted uuid) returns boolean
    language sql stable security definer set search_path = ''
    as $$ select exists (select 1 from private.members m where m.note = wanted and m.member = auth.uid()) $$;
create policy members on public.notes for select using (private.is_member(id));
grant select on public.notes to anon, authenticated;
insert into public.notes (owner, body) values (gen_random_uuid(), 'seed');
