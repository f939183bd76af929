INSERT INTO provision_frames (ns, run, seq, epoch, at, body, summary, open, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
