-- A view reaches into a schema the anonymous role cannot enter; the grant on the table is enough.
-- finds: read_unfiltered public.audit
create schema private;
create table private.audit (id bigint primary key, what text);
grant select on private.audit to anon;
create view public.audit with (security_invoker = true) as select what from private.audit;
grant select on public.audit to anon;
