-- Databases that carry a mark, with the version of the schema that was applied last.
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
order by d.datname
