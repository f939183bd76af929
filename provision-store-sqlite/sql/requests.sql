SELECT number, at, body FROM provision_requests WHERE ns = ?1 AND run = ?2 ORDER BY number
