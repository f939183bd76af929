-- Columns of the tables that have policies, with types that can be written into a cast.
select
    n.nspname::text as schema,
    c.relname::text as name,
    a.attname::text as attribute,
    format_type(a.atttypid, a.atttypmod) as type
from pg_attribute a
join pg_class c on c.oid = a.attrelid
join pg_namespace n on n.oid = c.relnamespace
join (select distinct schemaname, tablename from pg_policies) p
    on p.schemaname = n.nspname and p.tablename = c.relname
where a.attnum > 0 and not a.attisdropped
order by 1, 2, a.attnum
