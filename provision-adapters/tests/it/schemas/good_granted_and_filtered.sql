-- Anonymous readers hold the grants; the policies ask who they are.
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
grant select on public.notes to anon, authenticated;
create policy "own notes" on public.notes for select using (auth.uid() = owner);
create view public.recent_notes with (security_invoker = on) as select id, body from public.notes;
grant select on public.recent_notes to anon, authenticated;
create table public.shares (id uuid primary key, token text not null, note uuid not null);
alter table public.shares enable row level security;
grant select on public.shares to anon;
create policy "by token" on public.shares for select
    using (token = nullif(current_setting('request.share_token', true), ''));
insert into public.notes (owner, body) values (gen_random_uuid(), 'seed');
insert into public.shares values (gen_random_uuid(), 'secret', gen_random_uuid());
