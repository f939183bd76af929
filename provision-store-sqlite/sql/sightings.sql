SELECT run, path, provider, kind, external_id, epoch, at, generation FROM provision_sightings
WHERE ns = ?1 AND run BETWEEN ?2 AND ?3
