-- Shared limits, in a file of their own that is never synced: losing it costs at most one burst.
CREATE TABLE provision_buckets (
    namespace TEXT NOT NULL,
    bucket TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (namespace, bucket)
) STRICT, WITHOUT ROWID;
