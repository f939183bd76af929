UPDATE provision.secrets SET format = $6, key_id = $7, bytes = $8
WHERE ns = $1 AND scope = $2 AND generation = $3 AND name = $4 AND path = $5
    AND format = $9 AND key_id = $10 AND bytes = $11
