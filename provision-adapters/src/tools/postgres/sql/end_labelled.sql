-- Ends the connections that work at a statement with this label: of the role itself, since what others
-- send may say anything.
select pg_terminate_backend(pid)::text as ended
from pg_stat_activity
where usename = session_user and pid <> pg_backend_pid() and strpos(query, $1) > 0
