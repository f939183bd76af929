-- Roles are the whole server's: two clouds that make them at a time would fail each other. Held until
-- the connection ends.
select pg_catalog.pg_advisory_lock(pg_catalog.hashtext('provision simulated projects'))
