-- Every role whose rights the anonymous role has, and the role of whoever signs up.
-- All values are text: executors disagree about the form of booleans and big numbers.
select
    r.rolname::text as role,
    r.rolsuper::text as superuser,
    r.rolbypassrls::text as bypasses,
    pg_has_role({anonymous}, r.oid, 'MEMBER')::text as anon_is_member
from pg_roles r
where pg_has_role({anonymous}, r.oid, 'MEMBER') or r.rolname = {signed_in}
order by 1
