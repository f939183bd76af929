-- What long-standing projects grant on everything that is created in public.
alter default privileges for role {owner} in schema public
    grant all on tables to {owner}, anon, authenticated, service_role;
alter default privileges for role {owner} in schema public
    grant all on functions to {owner}, anon, authenticated, service_role;
alter default privileges for role {owner} in schema public
    grant all on sequences to {owner}, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
    grant all on tables to {owner}, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
    grant all on functions to {owner}, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
    grant all on sequences to {owner}, anon, authenticated, service_role;
