-- The process that serves this connection. Every name is the server's own, wherever the database says
-- that names are looked up.
select
    pid::pg_catalog.text as pid,
    extract(epoch from backend_start)::pg_catalog.text as since
from pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())
