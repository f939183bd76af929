-- Parent and partitions are protected, each by itself.
create table public.events (id bigint not null, owner uuid not null, at date not null) partition by range (at);
create table public.events_2026 partition of public.events for values from ('2026-01-01') to ('2027-01-01');
create table public.events_rest partition of public.events default;
alter table public.events enable row level security;
alter table public.events_2026 enable row level security;
alter table public.events_rest enable row level security;
create policy "own events" on public.events for select to authenticated using (auth.uid() = owner);
grant select on public.events to authenticated;
