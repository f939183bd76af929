CREATE INDEX provision_incarnations_dead ON provision_incarnations (ns, dead_at)
WHERE dead_at IS NOT NULL;
