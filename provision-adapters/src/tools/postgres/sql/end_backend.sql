-- Ends a connection, unless another one has its number by now.
select pg_terminate_backend(pid)::text as ended
from pg_stat_get_activity($1::int)
where extract(epoch from backend_start)::text = $2
