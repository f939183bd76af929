declare
    said text;
begin
    return query execute {select};
exception when insufficient_privilege then
    get stacked diagnostics said = message_text;
    -- Code of the database wanted another role: that proves nothing.
    if pg_catalog.starts_with(said, 'cannot set parameter') then
        raise exception using errcode = '55000', message = said;
    end if;
    -- Told apart from a right that the executor lacks before it has asked.
    raise exception using errcode = 'PV003', message = said;
end
