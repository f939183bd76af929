-- One column is enough to leak.
-- finds: row_security_off public.notes
-- finds: read_unfiltered public.notes
create table public.notes (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    body text not null
);
grant select (body) on public.notes to anon;
