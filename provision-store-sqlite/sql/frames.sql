SELECT seq, epoch, at, body FROM provision_frames WHERE ns = ?1 AND run = ?2 ORDER BY seq
