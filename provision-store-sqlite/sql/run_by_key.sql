SELECT run FROM provision_runs WHERE ns = ?1 AND key = ?2
