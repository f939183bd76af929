SELECT run FROM provision.heads WHERE ns = $1 AND guard = $2
