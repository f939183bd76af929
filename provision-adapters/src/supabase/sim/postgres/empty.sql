-- One row while the database does not have what a new project has.
select 1 where pg_catalog.to_regclass('storage.objects') is null
