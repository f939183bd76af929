-- What the platform puts into every new project, as far as access depends on it.
-- Tables of the platform have the columns that keys and policies refer to.
-- `{owner}` owns the database.
grant usage on schema public to {owner}, anon, authenticated, service_role;

create schema extensions authorization {owner};
grant usage on schema extensions to {owner}, anon, authenticated, service_role;

create schema auth authorization supabase_admin;
grant usage on schema auth to {owner}, anon, authenticated, service_role;
grant all on schema auth to supabase_auth_admin;
create table auth.users (
    id uuid not null primary key,
    aud varchar(255),
    role varchar(255),
    email varchar(255),
    phone text unique,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    is_anonymous boolean not null default false,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz
);
alter table auth.users enable row level security;
alter table auth.users owner to supabase_auth_admin;
grant all on auth.users to {owner};
create function auth.uid() returns uuid language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
    )::uuid
$$;
create function auth.role() returns text language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.role', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
    )::text
$$;
create function auth.email() returns text language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.email', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email')
    )::text
$$;
create function auth.jwt() returns jsonb language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$$;
alter function auth.uid() owner to supabase_auth_admin;
alter function auth.role() owner to supabase_auth_admin;
alter function auth.email() owner to supabase_auth_admin;

create schema storage authorization supabase_admin;
grant usage on schema storage to {owner}, anon, authenticated, service_role;
grant all on schema storage to supabase_storage_admin;
create table storage.buckets (
    id text not null primary key,
    name text not null unique,
    owner uuid,
    public boolean default false,
    created_at timestamptz default now()
);
create table storage.objects (
    id uuid not null primary key default gen_random_uuid(),
    bucket_id text references storage.buckets (id),
    name text,
    owner uuid,
    owner_id text,
    metadata jsonb,
    created_at timestamptz default now()
);
alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;
alter table storage.buckets owner to supabase_storage_admin;
alter table storage.objects owner to supabase_storage_admin;
grant all on storage.buckets, storage.objects to {owner}, anon, authenticated, service_role;
