-- Takes back what was lent to the owner of the schema for this transaction.
do $provision$
begin
    if pg_catalog.to_regtype('provision.temporary_lent') is not null then
        execute pg_catalog.format(
            'revoke temporary on database %I from %I', pg_catalog.current_database(), $owner
        );
        drop type provision.temporary_lent;
    end if;
end
$provision$;
