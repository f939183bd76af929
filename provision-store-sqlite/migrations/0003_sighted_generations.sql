-- Which generation of a step a worker without a lease had created something for.
ALTER TABLE provision_sightings ADD COLUMN generation INTEGER NOT NULL DEFAULT 1;
