-- The numbers that others are given can be set back.
-- finds: sets_sequence public.tickets
create sequence public.tickets;
grant usage, update on sequence public.tickets to anon;
