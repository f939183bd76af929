-- What is open is named: a news table, its totals, a search, a contact form.
-- opens: read public.news
-- opens: read public.news_totals
-- opens: call public.news_about
-- opens: insert public.contacts
create table public.news (id uuid primary key, title text not null, published boolean not null);
alter table public.news enable row level security;
create policy "published news" on public.news for select to anon, authenticated using (published);
grant select on public.news to anon, authenticated;
create materialized view public.news_totals as select count(*) as news from public.news;
grant select on public.news_totals to anon;
create function public.news_about(word text) returns setof public.news
    language sql stable security definer set search_path = ''
    as $$ select * from public.news where title = word $$;
grant execute on function public.news_about(text) to anon;
create table public.contacts (id uuid primary key default gen_random_uuid(), body text not null);
alter table public.contacts enable row level security;
create policy "anybody writes" on public.contacts for insert to anon with check (true);
grant insert on public.contacts to anon;
insert into public.news values (gen_random_uuid(), 'first', true);
