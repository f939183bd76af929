-- Conditions of many forms, each of them false without a signed-in reader.
create table public.posts (
    id bigint primary key,
    owner uuid,
    published boolean not null default false,
    body text
);
alter table public.posts enable row level security;
grant select on public.posts to anon, authenticated;
create table public.members (
    member uuid not null,
    post bigint not null,
    role text not null
);
alter table public.members enable row level security;
grant select on public.members to anon, authenticated;
create policy "own memberships" on public.members for select using ((select auth.uid()) = member);
create schema private;
create function private.is_member(wanted bigint) returns boolean
    language sql stable security definer set search_path = ''
    as $$
        -- Either of them is enough.
        select exists (
            select 1 from public.members m
            where m.post = wanted and (m.member = auth.uid() or m.member = (select auth.uid()))
        );
    $$;
create function private.my_role(wanted bigint) returns text
    language sql stable security definer set search_path = ''
    as $$ select m.role from public.members m where m.post = wanted and m.member = auth.uid() $$;
create policy either on public.posts for select
    using (auth.uid() = owner or private.is_member(id));
create policy "member and published" on public.posts for select
    using (published and exists (select 1 from public.members m where m.post = posts.id));
create policy listed on public.posts for select
    using (id in (select m.post from public.members m where m.member = auth.uid()));
create policy "by role" on public.posts for select using (private.my_role(id) = 'editor');
create policy "signed in" on public.posts for select using (auth.uid() is not null);
create policy "never null" on public.posts for select using (coalesce(auth.uid() = owner, false));
create policy nobody on public.posts for delete using (false);
insert into public.posts values (1, gen_random_uuid(), true, 'seed');
insert into public.members values (gen_random_uuid(), 1, 'editor');
