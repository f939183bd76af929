INSERT INTO provision_incarnations (ns, id, boot, expires, expires_at, dead_at)
VALUES (?1, ?2, ?3, ?4, ?5, NULL)
ON CONFLICT (ns, id) DO UPDATE
SET expires = CASE WHEN boot = excluded.boot THEN max(expires, excluded.expires)
        ELSE excluded.expires END,
    expires_at = max(expires_at, excluded.expires_at), boot = excluded.boot
WHERE dead_at IS NULL
