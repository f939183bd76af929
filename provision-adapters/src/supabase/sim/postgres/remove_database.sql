-- Whoever still reads from it loses the connection.
drop database if exists {owner} with (force)
