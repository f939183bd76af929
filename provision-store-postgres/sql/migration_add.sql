INSERT INTO provision.migrations (version, name, checksum) VALUES ($1, $2, $3)
