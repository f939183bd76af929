INSERT INTO provision.namespaces (name) VALUES ($1) ON CONFLICT (name) DO NOTHING
