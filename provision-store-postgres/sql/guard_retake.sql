UPDATE provision.heads
SET guard = guard_freed, guard_until = guard_freed_until,
    guard_freed = NULL, guard_freed_until = NULL
WHERE ns = $1 AND run = $2
