-- Where the setting is left empty, rows are shown that are empty there.
-- finds: policy_unclear public.notes/of_tenant
create table public.notes (id uuid primary key, tenant text not null);
alter table public.notes enable row level security;
create policy of_tenant on public.notes for select
    using (tenant = current_setting('app.tenant', true));
grant select on public.notes to anon;
