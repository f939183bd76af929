UPDATE provision_heads
SET guard = NULL, guard_until = NULL, guard_freed = guard, guard_freed_until = guard_until
WHERE ns = ?1 AND run = ?2 AND guard IS NOT NULL
