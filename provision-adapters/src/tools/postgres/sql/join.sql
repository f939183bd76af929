-- Makes the administering role a member of a role, unless it is a superuser or a member already: it
-- gives to that role what it makes, and takes it back.
declare
    wanted name := $role;
begin
    if not exists (select from pg_roles where rolname = wanted) then
        return;
    end if;
    -- From version 16 on a membership says by itself what it is good for.
    if (
        case
            when not pg_has_role(current_user, wanted, 'USAGE') then false
            when current_setting('server_version_num')::int < 160000 then true
            else pg_has_role(current_user, wanted, 'SET')
        end
    ) then
        return;
    end if;
    execute format('grant %I to current_user', wanted);
exception when unique_violation then
    -- It has become one in this very moment.
    null;
end
