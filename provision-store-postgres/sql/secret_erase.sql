DELETE FROM provision.secrets
WHERE ns = $1 AND scope = $2 AND generation = $3 AND name = $4 AND path = $5
