INSERT INTO provision.buckets (ns, bucket, state) VALUES ($1, $2, $3)
ON CONFLICT (ns, bucket) DO UPDATE SET state = excluded.state
