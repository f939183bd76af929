;
-- Ends a piece of SQL that others have written. Nothing that it left behind is run by what follows
-- it, which has all rights: a cursor to be held would be read at the commit.
close all;
reset session authorization;
reset role;
reset all;
set local search_path = pg_catalog, pg_temp;
-- Set anew at each connection, where the server knows it.
select set_config(name, '1s', false) as setting
from pg_settings
where name = 'client_connection_check_interval';
