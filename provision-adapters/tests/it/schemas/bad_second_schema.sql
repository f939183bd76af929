-- A schema that the anonymous role may enter counts like `public`.
-- finds: row_security_off app.notes
-- finds: read_unfiltered app.notes
create schema app;
grant usage on schema app to anon;
create table app.notes (id uuid primary key, body text);
grant select on all tables in schema app to anon;
