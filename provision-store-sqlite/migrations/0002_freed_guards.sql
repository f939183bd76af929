-- The business key that a run's end has freed: a run that is opened again takes it again.
ALTER TABLE provision_heads ADD COLUMN guard_freed TEXT;
ALTER TABLE provision_heads ADD COLUMN guard_freed_until TEXT;
