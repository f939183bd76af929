UPDATE provision_runs AS r
SET input = '', context = '', tenant = NULL, parent_run = NULL, parent_path = NULL,
    pruned_saga = l.saga, pruned_version = l.version, pruned_status = h.status,
    ended_at = h.updated_at, pruned_at = ?3
FROM provision_heads AS h
CROSS JOIN provision_lanes AS l ON l.lane = h.lane
WHERE r.ns = ?1 AND r.run = ?2 AND h.ns = ?1 AND h.run = ?2
