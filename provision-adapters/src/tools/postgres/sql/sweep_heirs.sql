-- Drops the heirs of whose inheritance nothing is left. One that somebody has given rights is his, and
-- what keeps one from being dropped says that somebody else uses it or drops it.
declare
    heir name;
begin
    for heir in
        select r.rolname from pg_roles r
        where starts_with(r.rolname::text, $heir)
            and not r.rolcanlogin
            and not exists (select from pg_auth_members m where m.member = r.oid)
            and not exists (
                select from pg_shdepend s
                where s.refclassid = 'pg_authid'::regclass and s.refobjid = r.oid
            )
    loop
        begin
            execute format('drop role %I', heir);
        exception when others then null;
        end;
    end loop;
end
