WITH clock AS MATERIALIZED (SELECT now FROM provision.moment)
UPDATE provision.heads AS h
SET poked = h.owner IS NOT NULL,
    due = CASE WHEN h.owner IS NULL THEN clock.now ELSE h.due END,
    place = CASE WHEN h.owner IS NULL THEN 2 ELSE 0 END
FROM clock, (SELECT DISTINCT ns, run FROM unnest($1::integer[], $2::uuid[]) AS g (ns, run)) AS g
WHERE h.ns = g.ns AND h.run = g.run
    AND (h.owner IS NOT NULL OR h.status IN ('Running', 'Waiting', 'Unwinding'))
