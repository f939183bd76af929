-- A look into another table that anybody may read says nothing about the reader.
-- opens: read public.shelves
-- finds: policy_shows_all public.posts/on a shelf
create table public.posts (
    id bigint primary key,
    owner uuid,
    published boolean not null default false,
    body text
);
alter table public.posts enable row level security;
grant select on public.posts to anon, authenticated;
create table public.shelves (post bigint not null);
alter table public.shelves enable row level security;
create policy "all shelves" on public.shelves for select using (true);
grant select on public.shelves to anon;
create policy "on a shelf" on public.posts for select
    using (exists (select 1 from public.shelves s where s.post = posts.id));
