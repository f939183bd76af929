-- A setting that an earlier request on the connection had is empty afterwards, and not missing.
-- finds: policy_shows_all public.notes/unscoped
create table public.notes (id uuid primary key, body text not null);
alter table public.notes enable row level security;
create policy unscoped on public.notes for select using (current_setting('app.tenant', true) = '');
grant select on public.notes to anon;
