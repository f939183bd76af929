SELECT scope, generation, name, path FROM provision.secrets
WHERE ns = $1 AND (scope, generation, name, path) > ($2, $3, $4, $5)
ORDER BY scope, generation, name, path LIMIT 1000
