-- Databases in which a role owns something or is granted something.
select distinct d.datname::text as name
from pg_shdepend s
join pg_database d on d.oid = s.dbid
where s.refclassid = 'pg_authid'::regclass
    and s.refobjid::text = $1
    and d.datallowconn
order by 1
