SELECT id FROM provision.incarnations WHERE ns = $1 AND dead_at IS NOT NULL
