//! How a process of workers is looked at from outside: by HTTP, and by a file of what it has counted.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::{say, variable};
use crate::{
    metrics::Exporter,
    serve::{Front, router},
    service::Service,
    trouble::Trouble,
};

/// What of it is wanted; where an option is not given, a variable of the environment is looked for.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Answer at this address what is asked about health, queues and counts, and take webhooks in;
    /// such as `127.0.0.1:9180`. Default: the variable `CONNECTOR_LISTEN`, and without that nowhere.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Write what was counted to this file at every look and at the end, in the text form of
    /// Prometheus. Default: the variable `CONNECTOR_METRICS_FILE`, and without that nowhere.
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
}

/// What of it is there.
#[derive(Debug)]
pub(super) struct Outlook {
    front: Option<Front>,
    exporter: Exporter,
    file: Option<PathBuf>,
}

impl Options {
    /// Counts from now on, and answers where that is wanted.
    pub(super) async fn open(&self, service: &Service) -> Result<Outlook, Trouble> {
        let exporter = Exporter::install()?;
        let mut file = self.metrics_file.clone();
        if file.is_none() {
            let named = variable("CONNECTOR_METRICS_FILE").await?;
            file = named.map(|name| PathBuf::from(name.expose()));
        }
        if let Some(file) = &file {
            exporter.write_to(file)?;
        }
        let front = match self.address().await? {
            Some(at) => Some(Front::open(at, router(service, &exporter)).await?),
            None => None,
        };
        if let Some(front) = &front {
            say(&format!("listening at http://{}", front.address()));
        }
        Ok(Outlook { front, exporter, file })
    }

    async fn address(&self) -> Result<Option<SocketAddr>, Trouble> {
        let named = match &self.listen {
            Some(address) => Some(address.clone()),
            None => variable("CONNECTOR_LISTEN").await?.map(|address| address.expose().to_owned()),
        };
        let Some(named) = named else { return Ok(None) };
        named.parse().map(Some).map_err(|_| {
            let hint = "write it as 127.0.0.1:9180";
            Trouble::new("usage", format!("`{named}` is no address to listen at"), hint)
        })
    }
}

impl Outlook {
    /// Writes what was counted, where that is wanted. Trouble is told, and nothing waits for it.
    pub(super) fn write(&self) {
        let written = self.file.as_ref().map_or(Ok(()), |file| self.exporter.write_to(file));
        if let Err(trouble) = written {
            say(&trouble.to_string());
        }
    }

    /// Answers what was asked, writes what was counted last, and answers no more.
    pub(super) async fn close(self) {
        self.write();
        if let Some(front) = self.front {
            front.close().await;
        }
    }
}
