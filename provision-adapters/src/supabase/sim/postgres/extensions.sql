-- A project has what the server has installed.
do $$
declare
    wanted text;
begin
    foreach wanted in array array['uuid-ossp', 'pgcrypto', 'pg_stat_statements'] loop
        if exists (select from pg_catalog.pg_available_extensions where name = wanted) then
            execute pg_catalog.format('create extension %I with schema extensions', wanted);
        end if;
    end loop;
    if pg_catalog.to_regprocedure('extensions.uuid_generate_v4()') is null then
        create function extensions.uuid_generate_v4() returns uuid language sql volatile
            as 'select gen_random_uuid()';
    end if;
end
$$;
