//! Mails that are to go out. One is written in the transaction that finds out what it tells, and
//! taken out in the one that begins its run: a crash loses none, and sends none twice.

use example_command::exit::Trouble;
use provision_adapters::resend::Mail;
use provision_core::store::{NewRun, Submission};
use rusqlite::Transaction;

use super::Table;

impl Table {
    /// Writes a mail that is to go out. One that was written under this key changes nothing.
    ///
    /// # Errors
    /// The store is away.
    pub async fn queue(&self, key: &str, mail: &Mail) -> Result<(), Trouble> {
        let (key, mail) = (key.to_owned(), text(mail)?);
        Ok(self.0.execute_host(move |tx| put(tx, &key, &mail)).await?)
    }

    /// The mails whose runs have not begun, with their keys.
    ///
    /// # Errors
    /// The store is away, or another program has written a mail that is none.
    pub async fn queued(&self) -> Result<Vec<(String, Mail)>, Trouble> {
        let queued = self.0.query_host(|conn| {
            let mut query = conn.prepare_cached("select key, mail from mails order by key")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<(String, String)>, _>>()
        });
        let read = |(key, mail): (String, String)| match serde_json::from_str(&mail) {
            Ok(mail) => Ok((key, mail)),
            Err(error) => Err(Trouble::bug("json", error.to_string())),
        };
        queued.await?.into_iter().map(read).collect()
    }

    /// Begins the run that sends a mail, and takes the mail out. A run that was begun for this key
    /// before, also one that is over and removed, has sent it or will.
    ///
    /// # Errors
    /// The store is away.
    pub async fn send(&self, key: &str, run: NewRun) -> Result<(), Trouble> {
        let key = key.to_owned();
        let taken = move |tx: &Transaction<'_>, _: &[_]| {
            tx.execute("delete from mails where key = ?1", [key]).map(drop)
        };
        self.0.submit_with_host(vec![Submission::Run(Box::new(run))], taken).await?;
        Ok(())
    }
}

/// A mail as it is stored.
pub(super) fn text(mail: &Mail) -> Result<String, Trouble> {
    serde_json::to_string(mail).map_err(|error| Trouble::bug("json", error.to_string()))
}

pub(super) fn put(tx: &Transaction<'_>, key: &str, mail: &str) -> rusqlite::Result<()> {
    let put = "insert or ignore into mails (key, mail) values (?1, ?2)";
    tx.execute(put, (key, mail)).map(drop)
}
