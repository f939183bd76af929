INSERT INTO provision_frames (ns, run, seq, epoch, at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
