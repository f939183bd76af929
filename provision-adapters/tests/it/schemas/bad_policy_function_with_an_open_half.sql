-- The function asks who reads, and shows what is published to anybody else.
-- finds: policy_shows_all public.posts/visible
create table public.posts (
    id bigint primary key,
    owner uuid,
    published boolean not null default false,
    body text
);
alter table public.posts enable row level security;
grant select on public.posts to anon, authenticated;
create schema private;
create function private.visible(wanted bigint) returns boolean
    language sql stable security definer set search_path = ''
    as $$ select exists (
        select 1 from public.posts p where p.id = wanted and (p.published or p.owner = auth.uid())
    ) $$;
create policy visible on public.posts for select using (private.visible(id));
