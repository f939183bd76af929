-- An owner is not held by row-level security.
-- finds: owned_by_anonymous public.notes
-- or refused: 42501
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
alter table public.notes enable row level security;
alter table public.notes owner to anon;
