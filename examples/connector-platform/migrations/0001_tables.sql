-- Fourteen tables of a platform that connects tenants to social networks and publishes for them.
-- Runs, their journals and their limits are the engine's, in the schema `provision`.

CREATE TABLE connectors.feature_flags (
    name text PRIMARY KEY CHECK (name ~ '^[a-z_]{1,60}$'),
    description text NOT NULL,
    enabled boolean NOT NULL DEFAULT false,
    rollout smallint NOT NULL DEFAULT 0 CHECK (rollout BETWEEN 0 AND 100),
    tenants text[] NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE connectors.feature_flags IS
'What is switched on, for whom: for named tenants, and for a share of all others.';
COMMENT ON COLUMN connectors.feature_flags.rollout IS 'Percent of tenants, 0 to 100.';

CREATE TABLE connectors.connector_platforms (
    platform text PRIMARY KEY
    CHECK (platform IN ('meta', 'linkedin', 'tiktok', 'gbp', 'mailchimp')),
    title text NOT NULL,
    flag text NOT NULL REFERENCES connectors.feature_flags (name),
    scopes text[] NOT NULL DEFAULT '{}',
    calls integer NOT NULL CHECK (calls > 0),
    per_seconds integer NOT NULL CHECK (per_seconds > 0),
    burst integer NOT NULL CHECK (burst > 0),
    concurrency integer NOT NULL DEFAULT 4 CHECK (concurrency > 0)
);
COMMENT ON TABLE connectors.connector_platforms IS
'Settings of each platform: its flag, what is asked of a user, and the rate of a new connection.';

CREATE TABLE connectors.connections (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    user_id text NOT NULL,
    platform text NOT NULL REFERENCES connectors.connector_platforms (platform),
    state text NOT NULL CHECK (state IN ('connected', 'attention', 'disconnected')),
    account_id text NOT NULL,
    account_name text NOT NULL,
    token_expires_at timestamptz,
    checked_at timestamptz,
    trouble text,
    run_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (id, tenant_id)
);
CREATE UNIQUE INDEX connections_account ON connectors.connections (tenant_id, platform, account_id)
WHERE state <> 'disconnected';
CREATE INDEX connections_attention ON connectors.connections (tenant_id) WHERE state = 'attention';
COMMENT ON TABLE connectors.connections IS 'Which account of a platform a tenant publishes by.';
COMMENT ON COLUMN connectors.connections.trouble IS 'Code of what a person has to mend.';

CREATE TABLE connectors.publish_jobs (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    connection_id uuid NOT NULL,
    request_key text NOT NULL,
    body text NOT NULL CHECK (char_length(body) BETWEEN 1 AND 20000),
    link text NOT NULL CHECK (link ~ '^https://[^ ]+$'),
    flags jsonb NOT NULL,
    state text NOT NULL DEFAULT 'queued'
    CHECK (state IN ('queued', 'published', 'failed', 'deleted')),
    post_id text,
    run_id uuid NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    UNIQUE (tenant_id, request_key),
    UNIQUE (id, tenant_id),
    FOREIGN KEY (connection_id, tenant_id) REFERENCES connectors.connections (id, tenant_id),
    CHECK ((state = 'published') <= (post_id IS NOT NULL))
);
CREATE INDEX publish_jobs_open ON connectors.publish_jobs (tenant_id, created_at)
WHERE state = 'queued';
CREATE INDEX publish_jobs_connection ON connectors.publish_jobs (connection_id);
COMMENT ON TABLE connectors.publish_jobs IS
'What is to be published; the row and its run are written in one transaction.';
COMMENT ON COLUMN connectors.publish_jobs.flags IS
'The flags as they stood when the job was started; the run keeps to them.';

CREATE TABLE connectors.webhook_events (
    id uuid PRIMARY KEY,
    platform text NOT NULL REFERENCES connectors.connector_platforms (platform),
    event_id text NOT NULL,
    tenant_id text,
    connection_id uuid,
    kind text NOT NULL,
    body_format smallint NOT NULL,
    body_key text NOT NULL,
    body_sealed bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (platform, event_id)
);
CREATE INDEX webhook_events_connection ON connectors.webhook_events (connection_id, received_at);
COMMENT ON TABLE connectors.webhook_events IS
'Deliveries as they came, byte for byte, sealed; one row for each event.';

CREATE TABLE connectors.connection_health_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    connection_id uuid NOT NULL,
    run_id uuid NOT NULL UNIQUE,
    healthy boolean NOT NULL,
    code text,
    checked_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (connection_id, tenant_id) REFERENCES connectors.connections (id, tenant_id),
    CHECK (healthy = (code IS NULL))
);
CREATE INDEX connection_health_log_latest
ON connectors.connection_health_log (connection_id, checked_at DESC);
COMMENT ON TABLE connectors.connection_health_log IS 'What each check of a connection found.';

CREATE TABLE connectors.connection_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    connection_id text NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    outcome text NOT NULL,
    secret text,
    happened_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX connection_audit_connection
ON connectors.connection_audit (tenant_id, connection_id, id);
COMMENT ON TABLE connectors.connection_audit IS
'Every change of a connection, and every use of its tokens; rows are only ever added.';

CREATE TABLE connectors.publish_job_analytics (
    job_id uuid NOT NULL,
    tenant_id text NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now(),
    run_id uuid NOT NULL UNIQUE,
    impressions bigint NOT NULL CHECK (impressions >= 0),
    reactions bigint NOT NULL CHECK (reactions >= 0),
    clicks bigint NOT NULL CHECK (clicks >= 0),
    PRIMARY KEY (job_id, taken_at),
    FOREIGN KEY (job_id, tenant_id) REFERENCES connectors.publish_jobs (id, tenant_id)
);
COMMENT ON TABLE connectors.publish_job_analytics IS 'Figures of published posts, over time.';

CREATE TABLE connectors.encrypted_secrets (
    tenant_id text COLLATE "C" NOT NULL,
    connection_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    format smallint NOT NULL,
    key_id text NOT NULL,
    sealed bytea NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, connection_id, name)
);
CREATE INDEX encrypted_secrets_key ON connectors.encrypted_secrets (key_id);
COMMENT ON TABLE connectors.encrypted_secrets IS
'Tokens, sealed for their very row: one that is moved to another does not open.';

CREATE TABLE connectors.publish_job_errors (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    job_id uuid NOT NULL,
    step text NOT NULL,
    attempt integer NOT NULL CHECK (attempt > 0),
    code text NOT NULL,
    message text,
    hint text,
    happened_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (job_id, tenant_id) REFERENCES connectors.publish_jobs (id, tenant_id)
);
CREATE INDEX publish_job_errors_job ON connectors.publish_job_errors (job_id, id);
COMMENT ON TABLE connectors.publish_job_errors IS
'Errors of each job, for its tenant; at most 100 for each, the newest.';

CREATE TABLE connectors.queue_jobs_monitoring (
    queue text NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now(),
    waiting bigint NOT NULL,
    delayed bigint NOT NULL,
    running bigint NOT NULL,
    dead_letters bigint NOT NULL,
    oldest_seconds double precision NOT NULL,
    PRIMARY KEY (queue, taken_at)
);
COMMENT ON TABLE connectors.queue_jobs_monitoring IS
'How each queue stood, minute by minute; kept for a week.';

CREATE TABLE connectors.rate_limit_buckets (
    connection_id uuid PRIMARY KEY REFERENCES connectors.connections (id) ON DELETE CASCADE,
    tenant_id text NOT NULL,
    bucket text NOT NULL UNIQUE,
    calls integer NOT NULL CHECK (calls > 0),
    per_seconds integer NOT NULL CHECK (per_seconds > 0),
    burst integer NOT NULL CHECK (burst > 0),
    concurrency integer NOT NULL CHECK (concurrency > 0)
);
COMMENT ON TABLE connectors.rate_limit_buckets IS
'What the token of a connection may do; how full its bucket is stands with the engine.';

CREATE TABLE connectors.connector_metadata (
    key text PRIMARY KEY,
    value text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE connectors.connector_metadata IS
'The migrations that were applied, with their fingerprints, and the version of the program.';

CREATE TABLE connectors.oauth_states (
    state_hash bytea PRIMARY KEY,
    tenant_id text NOT NULL,
    user_id text NOT NULL,
    platform text NOT NULL REFERENCES connectors.connector_platforms (platform),
    connection_id uuid NOT NULL UNIQUE,
    redirect_uri text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX oauth_states_expiry ON connectors.oauth_states (expires_at);
COMMENT ON TABLE connectors.oauth_states IS
'Users who were sent to a platform and are not back yet. Temporary: swept after their time.';
