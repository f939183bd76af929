-- One that is being locked at this very moment is waited for; others that are not free are passed
-- over.
held AS (SELECT g.*, g.found_at AS spot FROM given AS g WHERE g.is_free),
