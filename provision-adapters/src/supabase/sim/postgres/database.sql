-- The same collation wherever the server stands.
create database {owner} owner {owner} template template0 encoding 'UTF8' lc_collate 'C' lc_ctype 'C'
