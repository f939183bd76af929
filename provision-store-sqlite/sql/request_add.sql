INSERT INTO provision_requests (ns, run, number, at, body) VALUES (?1, ?2, ?3, ?4, ?5)
