INSERT INTO provision.secrets (ns, scope, generation, name, path, format, key_id, bytes)
SELECT * FROM unnest(
    $1::integer[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::smallint[], $7::text[],
    $8::bytea[]
)
ON CONFLICT DO NOTHING
