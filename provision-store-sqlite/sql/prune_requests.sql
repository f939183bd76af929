DELETE FROM provision_requests WHERE ns = ?1 AND run = ?2
