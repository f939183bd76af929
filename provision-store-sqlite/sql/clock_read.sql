SELECT boot, boot_ms, wall_ms, (SELECT max(version) FROM provision_migrations)
FROM provision_clock WHERE one = 1
