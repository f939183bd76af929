-- Numbers of lanes are never used twice, so a lane says by itself which namespace it is of. An index
-- that begins with the namespace could be taken for the key of a run, and walked whole.
DROP INDEX provision.heads_lane;
CREATE INDEX heads_lane ON provision.heads (lane, run);
