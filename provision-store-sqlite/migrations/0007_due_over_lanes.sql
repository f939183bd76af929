-- Runs that are due later, in the order of their times over all lanes: what a claim costs does not
-- grow with the queues that ever were.
CREATE INDEX provision_heads_due ON provision_heads (ns, due) WHERE place = 1;
DROP INDEX provision_heads_delayed;
