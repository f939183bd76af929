SELECT ns FROM provision.namespaces WHERE name = $1
