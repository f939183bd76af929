-- Keeps a reading that has run ahead of the last one; a server's clock that was set back goes on
-- from there at its own pace (S20).
UPDATE provision.clock AS c
SET kept_ms = greatest(c.kept_ms, m.now),
    shift_ms = CASE WHEN r.raw + c.shift_ms < c.kept_ms THEN c.kept_ms - r.raw
        ELSE c.shift_ms END
FROM provision.moment AS m,
    (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS raw) AS r
WHERE r.raw + c.shift_ms > c.kept_ms + 1000 OR r.raw + c.shift_ms < c.kept_ms
