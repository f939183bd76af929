UPDATE provision.heads AS h
SET guard = NULL, guard_until = NULL, guard_freed = h.guard, guard_freed_until = h.guard_until
FROM unnest($1::integer[], $2::uuid[]) AS g (ns, run)
WHERE h.ns = g.ns AND h.run = g.run AND h.guard IS NOT NULL
