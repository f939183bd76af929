-- Lets the owner of the schema have functions and tables of this connection alone.
do $provision$
begin
    if has_database_privilege($owner, current_database(), 'TEMPORARY') then
        return;
    end if;
    execute format('grant temporary on database %I to %I', current_database(), $owner);
    -- Remembers that it was not so before, where code of the owner's can neither make it nor drop it:
    -- what is temporary goes with a `discard temp`.
    create type provision.temporary_lent as ();
end
$provision$;
