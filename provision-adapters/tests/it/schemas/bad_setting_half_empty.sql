-- It holds where the one setting is missing and the other one is left empty.
-- finds: policy_shows_all public.notes/half
create table public.notes (id uuid primary key, body text not null);
alter table public.notes enable row level security;
create policy half on public.notes for select using (
    (coalesce(current_setting('app.tenant', true), 'x') || coalesce(current_setting('app.user', true), 'y')) = 'x'
);
grant select on public.notes to anon;
