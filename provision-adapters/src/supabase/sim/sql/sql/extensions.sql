-- The platform's extensions, as far as the model has them.
create extension "uuid-ossp" with schema extensions;
create extension pgcrypto with schema extensions;
create extension pg_stat_statements with schema extensions;
create function extensions.uuid_generate_v4() returns uuid language sql volatile
    as 'select gen_random_uuid()';
