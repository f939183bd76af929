SELECT run, path, provider, kind, external_id, epoch, at, generation FROM provision.sightings
WHERE ns = $1 AND run BETWEEN $2 AND $3
ORDER BY run, path, provider, kind, external_id, epoch
