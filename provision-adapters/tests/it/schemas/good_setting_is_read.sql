-- Whoever is meant is named by a setting, which may be missing or left empty.
create table public.notes (id uuid primary key, owner uuid not null, tenant text not null);
alter table public.notes enable row level security;
create policy own on public.notes for select
    using (owner = (nullif(current_setting('app.user', true), ''))::uuid);
create policy unread on public.notes for update
    using (id > (current_setting('app.after', true))::uuid);
create policy of_tenant on public.notes for delete
    using (tenant = nullif(current_setting('app.tenant', true), ''));
grant select, update, delete on public.notes to anon;
