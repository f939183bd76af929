//! The raw limit: one row per commit, one writer, the same durability settings.

use std::{path::Path, time::Instant};

const ROWS: u32 = 3_000;

/// Rows per second of a loop of single-row commits in WAL mode with `synchronous=FULL`.
pub(crate) fn one_row_per_commit(path: &Path) -> f64 {
    let db = rusqlite::Connection::open(path).expect("a database");
    db.pragma_update(None, "journal_mode", "WAL").expect("WAL");
    db.pragma_update(None, "synchronous", "FULL").expect("FULL");
    db.execute_batch(
        "create table runs(id integer primary key, seq integer, status text);
         create table journal(run integer, seq integer, body text, primary key(run, seq)) without rowid;
         insert into runs values (1, 0, 'Running');",
    )
    .expect("a schema");
    let began = Instant::now();
    for seq in 0..ROWS {
        db.execute_batch("begin immediate").expect("begin");
        db.prepare_cached("insert into journal values (1, ?1, ?2)")
            .and_then(|mut s| {
                s.execute((seq, "[{\"succeeded\":{\"path\":\"s1\",\"dir\":\"forward\"}}]"))
            })
            .expect("an insert");
        db.prepare_cached("update runs set seq = ?1 where id = 1")
            .and_then(|mut s| s.execute((seq,)))
            .expect("an update");
        db.execute_batch("commit").expect("commit");
    }
    f64::from(ROWS) / began.elapsed().as_secs_f64()
}
