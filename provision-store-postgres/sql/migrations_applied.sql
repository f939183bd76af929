SELECT version, checksum FROM provision.migrations ORDER BY version
