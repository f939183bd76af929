-- The parent is protected; the partition is a table of its own.
-- finds: row_security_off public.events_2026
-- finds: read_unfiltered public.events_2026
create table public.events (id bigint not null, at date not null, body text) partition by range (at);
create table public.events_2026 partition of public.events for values from ('2026-01-01') to ('2027-01-01');
alter table public.events enable row level security;
grant select on public.events, public.events_2026 to anon;
