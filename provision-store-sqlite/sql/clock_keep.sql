INSERT INTO provision_clock (one, boot, boot_ms, wall_ms) VALUES (1, ?1, ?2, ?3)
ON CONFLICT (one) DO UPDATE
SET boot = excluded.boot, boot_ms = excluded.boot_ms, wall_ms = excluded.wall_ms
