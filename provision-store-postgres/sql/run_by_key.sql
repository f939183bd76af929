SELECT run FROM provision.runs WHERE ns = $1 AND key = $2
