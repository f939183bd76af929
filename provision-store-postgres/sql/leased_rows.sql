-- Of `acquire` and `take`, last part.
FROM clock
LEFT JOIN (
    granted AS g
    INNER JOIN held AS x ON x.run = g.run
    INNER JOIN code AS c ON c.lane = g.lane
    INNER JOIN provision.runs AS r ON r.ns = g.ns AND r.run = g.run
) ON true
ORDER BY x.place
