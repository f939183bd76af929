-- What every project's database begins with. Row security is switched on for all of it by the step
-- that applies this, and nothing is open to who is not signed in.
CREATE TABLE notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    author uuid NOT NULL,
    body text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notes_author ON notes (author);
