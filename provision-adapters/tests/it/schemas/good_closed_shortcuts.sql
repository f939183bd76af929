-- Owner's views, materialized views and definer functions that anonymous readers cannot reach.
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes for all to authenticated using (auth.uid() = owner);
create view public.note_totals as select owner, count(*) as notes from public.notes group by owner;
revoke all on public.note_totals from anon, authenticated;
create materialized view public.note_stats as select count(*) as notes from public.notes;
revoke all on public.note_stats from anon, authenticated;
create function public.all_notes() returns setof public.notes
    language sql stable security definer set search_path = ''
    as $$ select * from public.notes $$;
revoke execute on function public.all_notes() from public, anon, authenticated;
create schema private;
create table private.audit (id bigint primary key, what text);
