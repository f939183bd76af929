SELECT guard_freed FROM provision.heads
WHERE ns = $1 AND run = $2 AND guard_freed IS NOT NULL
