-- Who may call an aggregate needs no right to the functions that it is made of.
-- finds: definer_function public.every_note(integer)
-- or refused: 0A000
create table public.notes (id uuid primary key, body text not null);
alter table public.notes enable row level security;
create function public.add_note(held text, unused integer) returns text
    language sql security definer set search_path = ''
    as $$ select concat(held, (select string_agg(body, ',') from public.notes)) $$;
revoke execute on function public.add_note(text, integer) from public, anon, authenticated;
create aggregate public.every_note(integer) (sfunc = public.add_note, stype = text, initcond = '');
grant execute on function public.every_note(integer) to anon;
