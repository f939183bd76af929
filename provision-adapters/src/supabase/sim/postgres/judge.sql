-- Whether the role that was given can do what is needed of it.
select 1 from pg_catalog.pg_roles where rolname = current_user and rolsuper
