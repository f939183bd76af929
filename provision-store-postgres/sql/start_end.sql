SELECT ns, run, owner IS NOT NULL, place, updated_at FROM headed
