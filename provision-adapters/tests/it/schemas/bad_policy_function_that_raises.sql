-- It raises an error for a row of nulls and shows all others. The simulated database has no procedures.
-- or refused: 0A000
-- finds: policy_unclear public.posts/raises
create table public.posts (
    id bigint primary key,
    owner uuid,
    published boolean not null default false,
    body text
);
alter table public.posts enable row level security;
grant select on public.posts to anon, authenticated;
create function public.raises(wanted bigint) returns boolean language plpgsql stable
    as $$ begin
        if wanted is null then raise exception 'no row'; end if;
        return auth.uid() is null;
    end $$;
create policy raises on public.posts for select using (public.raises(id));
