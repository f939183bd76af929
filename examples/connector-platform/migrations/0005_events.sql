-- A delivery may tell several tenants of several things. It is kept once, sealed, in a row of its
-- own; each thing that it tells a connection of has a row that names the delivery.
ALTER TABLE connectors.webhook_events ADD COLUMN delivery uuid;
UPDATE connectors.webhook_events SET delivery = id;
ALTER TABLE connectors.webhook_events
ALTER COLUMN delivery SET NOT NULL,
ALTER COLUMN body_format DROP NOT NULL,
ALTER COLUMN body_key DROP NOT NULL,
ALTER COLUMN body_sealed DROP NOT NULL,
ADD CONSTRAINT webhook_events_delivery FOREIGN KEY (delivery)
REFERENCES connectors.webhook_events (id),
ADD CONSTRAINT webhook_events_body CHECK (
    num_nonnulls(body_format, body_key, body_sealed) = CASE WHEN id = delivery THEN 3 ELSE 0 END
);
CREATE INDEX webhook_events_of_delivery ON connectors.webhook_events (delivery);
COMMENT ON TABLE connectors.webhook_events IS
'Deliveries as they came, byte for byte, sealed; and a row for each thing that one tells a connection of.';
