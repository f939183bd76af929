INSERT OR IGNORE INTO provision_secrets (ns, scope, generation, name, path, format, key_id, bytes)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
