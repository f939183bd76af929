SELECT state FROM provision_buckets WHERE namespace = ?1 AND bucket = ?2
