SELECT dead_at IS NOT NULL OR boot <> ?3 FROM provision_incarnations WHERE ns = ?1 AND id = ?2
