-- Databases in which a role owns something or is granted something. What it has on databases
-- themselves is the server's, and has no name here.
select distinct coalesce(d.datname, '')::text as name
from pg_shdepend s
left join pg_database d on d.oid = s.dbid
where s.refclassid = 'pg_authid'::regclass
    and s.refobjid::text = $1
    and (s.dbid = 0 or d.datallowconn)
order by 1
