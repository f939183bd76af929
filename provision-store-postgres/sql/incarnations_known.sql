SELECT id, dead_at IS NOT NULL FROM provision.incarnations WHERE ns = $1 AND id = ANY ($2)
