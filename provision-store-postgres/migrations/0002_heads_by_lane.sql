-- The newest run of a kind of saga, which every start of a program asks for, without a walk over
-- the runs of all others. Neither column ever changes: a step does not touch the index.
CREATE INDEX heads_lane ON provision.heads (ns, lane, run);
