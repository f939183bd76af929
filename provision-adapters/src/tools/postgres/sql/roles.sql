-- Roles that carry a mark.
select r.oid::text as id, r.rolname::text as name, shobj_description(r.oid, 'pg_authid') as comment
from pg_roles r
where shobj_description(r.oid, 'pg_authid') like '%[provision:%'
order by r.rolname
