DELETE FROM provision_sightings WHERE ns = ?1 AND run = ?2
