-- Whose the record of migrations is, if there is one: what somebody else made under its name could
-- run their code where it is read and written, which is done with all rights.
set local search_path = pg_catalog, pg_temp;
do $provision$
begin
    if exists (
        select from pg_namespace n
        join pg_roles r on r.oid = n.nspowner
        where n.nspname = 'provision' and not r.rolsuper and r.rolname <> current_user
    ) or exists (
        select from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        join pg_roles r on r.oid = c.relowner
        where n.nspname = 'provision' and c.relname = 'migrations'
            and (c.relkind <> 'r' or not r.rolsuper and r.rolname <> current_user)
    ) then
        raise exception using
            errcode = 'PV001', message = 'the record of migrations is of somebody else';
    end if;
end
$provision$;
