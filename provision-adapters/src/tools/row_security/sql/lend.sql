-- A function is given only to a role that may make it, where the executor is no superuser. It is over
-- with the transaction, which is rolled back.
begin
    if not (select rolsuper from pg_roles where rolname = current_user)
        and not has_database_privilege({anonymous}, current_database(), 'TEMPORARY')
    then
        execute format('grant temporary on database %I to %I', current_database(), {anonymous});
    end if;
end
