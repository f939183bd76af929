select d.oid::text as id, d.datname::text as name, shobj_description(d.oid, 'pg_database') as comment
from pg_database d
where d.datname::text in ($1, $2)
