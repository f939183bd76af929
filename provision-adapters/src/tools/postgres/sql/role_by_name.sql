select r.oid::text as id, r.rolname::text as name, shobj_description(r.oid, 'pg_authid') as comment
from pg_roles r
where r.rolname::text = $1
