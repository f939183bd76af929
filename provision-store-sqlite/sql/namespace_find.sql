SELECT ns FROM provision_namespaces WHERE name = ?1
