-- Lets the owner of the schema have functions and tables of this connection alone.
do $provision$
begin
    if has_database_privilege($owner, current_database(), 'TEMPORARY') then
        return;
    end if;
    execute format('grant temporary on database %I to %I', current_database(), $owner);
    -- Remembers that it was not so before. Code of the owner's cannot make one that is of this role.
    create type pg_temp.provision_lent as ();
end
$provision$;
