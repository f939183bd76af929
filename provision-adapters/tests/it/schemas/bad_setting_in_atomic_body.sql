-- A function that is parsed when it is made has no source, and reads a setting all the same: left empty,
-- it shows the rows of the tenant without a name.
-- finds: policy_unclear public.notes/own
-- or refused: 0A000
create table public.notes (id uuid primary key, tenant text not null);
alter table public.notes enable row level security;
create function public.current_tenant() returns text language sql stable
    begin atomic select current_setting('app.tenant', true); end;
grant execute on function public.current_tenant() to anon;
create policy own on public.notes for select using (tenant = public.current_tenant());
grant select on public.notes to anon;
