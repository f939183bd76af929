SELECT lane, queue, saga, version, fingerprint FROM provision_lanes WHERE ns = ?1 ORDER BY lane
