DELETE FROM provision.buckets WHERE ns = $1 AND bucket = $2
