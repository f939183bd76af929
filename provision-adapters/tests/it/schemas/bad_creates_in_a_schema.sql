-- What anonymous visitors make there may be called in the place of something else.
-- finds: creates app
create schema app;
grant usage, create on schema app to anon;
