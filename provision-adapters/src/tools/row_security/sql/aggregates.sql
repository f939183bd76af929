-- Aggregates of which some part runs with its owner's rights: who may call the aggregate needs no
-- right to its parts.
select
    n.nspname::text as schema,
    p.proname::text as name,
    pg_get_function_identity_arguments(p.oid) as arguments
from pg_aggregate a
join pg_proc p on p.oid = a.aggfnoid
join pg_namespace n on n.oid = p.pronamespace
where exists (
        select from pg_proc s
        where s.prosecdef
            and s.oid in (
                a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
                a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn
            )
    )
    and n.nspname !~ '^pg_'
    and n.nspname not in ({provided})
order by 1, 2, 3
