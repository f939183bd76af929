CREATE TABLE IF NOT EXISTS provision.migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL
)
