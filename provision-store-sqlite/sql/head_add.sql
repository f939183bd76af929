INSERT INTO provision_heads (
    ns, run, lane, priority, tenant_lane, status, due, place, polls, seq, epoch, owner, nonce,
    requests, consumed, open, deaths, poked, died_at, summary, dead_letter, guard, guard_until,
    updated_at
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?19, ?20, ?21,
    ?10, ?11, ?12, ?13, 0, NULL, ?14, ?15, ?16, ?17, ?18
)
