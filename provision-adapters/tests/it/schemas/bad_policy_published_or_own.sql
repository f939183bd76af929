-- One half asks who reads, the other looks at the row alone, and either is enough.
-- finds: policy_shows_all public.posts/published or own
create table public.posts (
    id bigint primary key,
    owner uuid,
    published boolean not null default false,
    body text
);
alter table public.posts enable row level security;
grant select on public.posts to anon, authenticated;
create policy "published or own" on public.posts for select to anon, authenticated
    using (published or owner = auth.uid());
