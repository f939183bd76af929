INSERT INTO provision.sightings (
    ns, run, path, provider, kind, external_id, epoch, at, generation
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT DO NOTHING
