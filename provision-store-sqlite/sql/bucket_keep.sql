INSERT INTO provision_buckets (namespace, bucket, state) VALUES (?1, ?2, ?3)
ON CONFLICT (namespace, bucket) DO UPDATE SET state = excluded.state
