INSERT INTO provision.lanes (ns, queue, saga, version, fingerprint) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
