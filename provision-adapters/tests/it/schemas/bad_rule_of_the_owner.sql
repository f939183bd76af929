-- What a rule does instead is done with the rights of the table's owner.
-- finds: rewrite_rule public.notes/also
-- or refused: 0A000
create table public.notes (id uuid primary key, body text not null);
alter table public.notes enable row level security;
create table public.audit (note uuid, body text);
alter table public.audit enable row level security;
create rule also as on insert to public.notes do also
    insert into public.audit values (new.id, new.body);
grant insert on public.notes to anon;
