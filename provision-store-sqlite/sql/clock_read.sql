SELECT boot, boot_ms, wall_ms FROM provision_clock WHERE one = 1
