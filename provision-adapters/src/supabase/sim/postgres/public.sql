-- As since version 15: the schema is the database owner's, and others make nothing in it.
do $$
begin
    if exists (select from pg_catalog.pg_roles where rolname = 'pg_database_owner') then
        alter schema public owner to pg_database_owner;
    else
        alter schema public owner to {owner};
    end if;
end
$$;
revoke create on schema public from public;
comment on database {owner} is 'a simulated Supabase project';
