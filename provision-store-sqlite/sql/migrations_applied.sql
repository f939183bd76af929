SELECT version, checksum FROM provision_migrations ORDER BY version
