SELECT * FROM provision_run_rows WHERE ns = ?1 AND run = ?2
