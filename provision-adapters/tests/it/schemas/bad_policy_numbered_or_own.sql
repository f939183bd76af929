-- Every row there will be has a number above nothing; a row of nulls has not.
-- finds: policy_shows_all public.posts/numbered or own
create table public.posts (
    id bigint primary key,
    owner uuid,
    published boolean not null default false,
    body text
);
alter table public.posts enable row level security;
grant select on public.posts to anon, authenticated;
create policy "numbered or own" on public.posts for select using (id > 0 or auth.uid() = owner);
