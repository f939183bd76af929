-- Takes back what was lent to the owner of the schema for this transaction.
do $provision$
begin
    if exists (
        select from pg_catalog.pg_type t
        join pg_catalog.pg_roles r on r.oid = t.typowner
        where t.typname = 'provision_lent'
            and t.typnamespace = pg_catalog.pg_my_temp_schema()
            and r.rolname = current_user
    ) then
        execute pg_catalog.format(
            'revoke temporary on database %I from %I', pg_catalog.current_database(), $owner
        );
    end if;
end
$provision$;
