-- Granted to everybody, which the anonymous role is part of.
-- finds: row_security_off public.notes
-- finds: read_unfiltered public.notes
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
grant select on public.notes to public;
