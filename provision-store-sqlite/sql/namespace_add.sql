INSERT INTO provision_namespaces (name) VALUES (?1) ON CONFLICT (name) DO NOTHING
