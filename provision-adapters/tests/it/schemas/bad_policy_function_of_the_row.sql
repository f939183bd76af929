-- The function is content with every row that is one.
-- finds: policy_shows_all public.posts/visible
create table public.posts (
    id bigint primary key,
    owner uuid,
    published boolean not null default false,
    body text
);
alter table public.posts enable row level security;
grant select on public.posts to anon, authenticated;
create function public.visible(wanted bigint) returns boolean language sql immutable
    as $$ select wanted is not null $$;
create policy visible on public.posts for select using (public.visible(id));
