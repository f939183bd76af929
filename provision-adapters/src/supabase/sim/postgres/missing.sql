-- One row while the database is not there.
select 1 where not exists (select from pg_catalog.pg_database where datname = '{owner}')
