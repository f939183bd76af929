INSERT INTO provision_incarnations (ns, id, boot, expires, expires_at, dead_at)
VALUES (?1, ?2, ?3, ?4, ?5, NULL)
ON CONFLICT (ns, id) DO UPDATE
SET boot = excluded.boot, expires = excluded.expires, expires_at = excluded.expires_at
WHERE dead_at IS NULL
