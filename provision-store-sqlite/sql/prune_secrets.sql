DELETE FROM provision_secrets WHERE ns = ?1 AND scope = ?2
