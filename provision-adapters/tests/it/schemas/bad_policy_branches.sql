-- A branch and a default hide the open part.
-- finds: policy_unclear public.posts/branch
-- finds: policy_shows_all public.posts/default
create table public.posts (
    id bigint primary key,
    owner uuid,
    published boolean not null default false,
    body text
);
alter table public.posts enable row level security;
grant select on public.posts to anon, authenticated;
create policy branch on public.posts for select
    using (case when auth.uid() = owner then true else id > 0 end);
create policy "default" on public.posts for select
    using (coalesce(auth.uid() = owner, published));
