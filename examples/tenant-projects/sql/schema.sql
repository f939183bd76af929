-- What the host keeps of its projects, below what the library keeps in its own schema. It is run in
-- one transaction, by the owner; running it again changes nothing.

CREATE SCHEMA IF NOT EXISTS tenants;

-- A project, from the moment on its run has begun. What ended stays, so that people can look it up.
CREATE TABLE IF NOT EXISTS tenants.projects (
    id uuid PRIMARY KEY,
    slug text NOT NULL,
    name text NOT NULL,
    owner_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    region text NOT NULL,
    contact text,
    run uuid NOT NULL UNIQUE,
    -- Which life of the run has entered it.
    generation bigint NOT NULL,
    state text NOT NULL DEFAULT 'provisioning'
        CHECK (state IN ('provisioning', 'active', 'removing', 'failed', 'removed')),
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CHECK ((state IN ('failed', 'removed')) = (ended_at IS NOT NULL))
);
-- Databases and roles are named after it: of those that live, one has it.
CREATE UNIQUE INDEX IF NOT EXISTS projects_living ON tenants.projects (slug)
    WHERE state IN ('provisioning', 'active', 'removing');

-- Where a project is registered.
CREATE TABLE IF NOT EXISTS tenants.project_services (
    project uuid NOT NULL REFERENCES tenants.projects,
    service text NOT NULL CHECK (service IN ('auth', 'realtime', 'storage')),
    registration text NOT NULL,
    PRIMARY KEY (project, service),
    UNIQUE (service, registration)
);

-- What a project has on the tenants' server.
CREATE TABLE IF NOT EXISTS tenants.project_resources (
    project uuid NOT NULL REFERENCES tenants.projects,
    kind text NOT NULL CHECK (kind IN ('database', 'owner', 'login')),
    name text NOT NULL,
    PRIMARY KEY (project, kind),
    UNIQUE (kind, name)
);

-- How much of it a project uses, and how much it may. A figure that was never measured is null.
CREATE TABLE IF NOT EXISTS tenants.project_usage (
    project uuid NOT NULL REFERENCES tenants.projects,
    metric text NOT NULL CHECK (metric IN ('database_bytes', 'connections', 'resources')),
    used bigint CHECK (used >= 0),
    quota bigint NOT NULL CHECK (quota >= 0),
    measured_at timestamptz,
    PRIMARY KEY (project, metric),
    CHECK ((used IS NULL) = (measured_at IS NULL))
);

-- API keys: the hash alone. The key itself is sealed with the run that has drawn it, until it was
-- shown.
CREATE TABLE IF NOT EXISTS tenants.api_keys (
    id text PRIMARY KEY,
    project uuid NOT NULL REFERENCES tenants.projects,
    purpose text NOT NULL CHECK (purpose IN ('publishable', 'secret')),
    hash text NOT NULL CHECK (hash LIKE '$argon2id$%' OR hash LIKE '$scrypt$%'),
    run uuid NOT NULL,
    generation bigint NOT NULL,
    drawn_at timestamptz NOT NULL DEFAULT now(),
    -- From here on somebody may have it. Without `shown_at` nobody has said so, and it is replaced.
    taken_at timestamptz,
    shown_at timestamptz,
    revoked_at timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS api_keys_valid ON tenants.api_keys (project, purpose)
    WHERE revoked_at IS NULL;

-- Where the data folders are whose runs are here; the name of a folder's queue has its token.
CREATE TABLE IF NOT EXISTS tenants.folders (
    queue text PRIMARY KEY,
    path text NOT NULL
);

-- Written to see whether anything can be.
CREATE TABLE IF NOT EXISTS tenants.pulse (
    one integer PRIMARY KEY CHECK (one = 1),
    beat bigint NOT NULL
);
