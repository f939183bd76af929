-- Everything stored of some runs, as of one moment. Each is looked up by its key: a plan that was
-- made while the tables were empty would walk all runs of the namespace for `run = ANY`.
SELECT x.*, f.seqs, f.epochs, f.ats, f.bodies, q.numbers, q.ats, q.bodies
FROM (SELECT DISTINCT u.run FROM unnest($2::uuid[]) AS u (run)) AS g
CROSS JOIN LATERAL (
    SELECT * FROM provision.run_rows AS y WHERE y.ns = $1 AND y.run = g.run OFFSET 0
) AS x
CROSS JOIN LATERAL (
    SELECT
        coalesce(array_agg(f.seq ORDER BY f.seq), '{}') AS seqs,
        coalesce(array_agg(f.epoch ORDER BY f.seq), '{}') AS epochs,
        coalesce(array_agg(f.at ORDER BY f.seq), '{}') AS ats,
        coalesce(array_agg(f.body ORDER BY f.seq), '{}') AS bodies
    FROM provision.frames AS f WHERE f.ns = x.ns AND f.run = x.run
) AS f
CROSS JOIN LATERAL (
    SELECT
        coalesce(array_agg(q.number ORDER BY q.number), '{}') AS numbers,
        coalesce(array_agg(q.at ORDER BY q.number), '{}') AS ats,
        coalesce(array_agg(q.body ORDER BY q.number), '{}') AS bodies
    FROM provision.requests AS q WHERE q.ns = x.ns AND q.run = x.run
) AS q
