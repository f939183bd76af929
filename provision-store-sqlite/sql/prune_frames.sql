DELETE FROM provision_frames WHERE ns = ?1 AND run = ?2
