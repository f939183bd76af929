-- What does not belong to nobody is shown.
-- finds: policy_unclear public.posts/of others
create table public.posts (
    id bigint primary key,
    owner uuid,
    published boolean not null default false,
    body text
);
alter table public.posts enable row level security;
grant select on public.posts to anon, authenticated;
create policy "of others" on public.posts for select using (owner is distinct from auth.uid());
