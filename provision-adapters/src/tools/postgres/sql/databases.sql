-- Databases that carry a mark, or are not finished, with the version of the schema that was applied
-- last.
select
    d.oid::text as id,
    d.datname::text as name,
    shobj_description(d.oid, 'pg_database') as comment,
    (
        select split_part(setting, '=', 2)
        from pg_db_role_setting s, unnest(s.setconfig) as setting
        where s.setdatabase = d.oid and s.setrole = 0
            and setting like 'provision.schema\_version=%'
    ) as schema_version
from pg_database d
where shobj_description(d.oid, 'pg_database') like '%[provision:%'
    or d.datname like 'provision\_new\_%'
order by d.datname
