-- Nobody can say which setting it reads.
-- finds: policy_unclear public.notes/own
create table public.notes (id uuid primary key, owner text not null);
alter table public.notes enable row level security;
create policy own on public.notes for select
    using (owner = nullif(current_setting('app.' || 'user', true), ''));
grant select on public.notes to anon;
