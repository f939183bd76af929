//! Audio in a bucket: spooled in a folder while it is made, and uploaded with its receipt.

use std::collections::BTreeMap;

use provision_core::{StepContext, StepError};

use super::{
    client::{Payload, SupabaseStorage, Upload},
    steps::object::{mark_of, metadata},
};
use crate::elevenlabs::{AudioSink, AudioUpload, FileSink, FileUpload, Receipt, Stored};

/// Name of the receipt in an object's metadata.
const RECEIPT: &str = "receipt";

/// Stores audio in a bucket.
///
/// Audio comes from its maker before anybody knows what the receipt will say, and the server takes
/// metadata only before the content. So it is spooled in a folder of this machine, whole or not at
/// all, and uploaded from there with its receipt in one call. Where the upload fails, the spooled
/// audio stays: the step finds it again on this machine and uploads it, and nothing is paid twice.
/// A look uploads nothing, and an undo removes what is spooled and never uploads it. A machine that
/// is lost with its folder at that moment loses the audio; then it is as if the answer had been
/// lost.
#[derive(Debug, Clone)]
pub struct StorageSink {
    storage: SupabaseStorage,
    bucket: String,
    spool: FileSink,
}

/// Audio on its way into the spool.
#[derive(Debug)]
pub struct StorageUpload(FileUpload);

impl StorageSink {
    /// Stores in this bucket, by way of this folder. Workers of one machine may share a folder.
    #[must_use]
    pub fn new(storage: &SupabaseStorage, bucket: impl Into<String>, spool: FileSink) -> Self {
        Self { storage: storage.clone(), bucket: bucket.into(), spool }
    }

    /// What is in the bucket under this name: nothing, where there is no such bucket.
    async fn there(&self, cx: &StepContext, object: &str) -> Result<Option<Stored>, StepError> {
        let shown = match self.storage.info(cx, &self.bucket, object).await {
            Err(error) if error.code() == "no_bucket" => None,
            end => end?,
        };
        let Some(shown) = shown else { return Ok(None) };
        let receipt = shown.noted(RECEIPT).and_then(|text| serde_json::from_str(text).ok());
        // S11: somebody may have put another object there with a copy of the metadata.
        let receipt = receipt.filter(|receipt: &Receipt| {
            Some(receipt.made.bytes) == shown.size
                && mark_of(&shown).is_some_and(|mark| mark == receipt.mark)
        });
        Ok(Some(receipt.map_or(Stored::Other, Stored::Audio)))
    }

    /// What of this run and step is spooled on this machine.
    async fn spooled(&self, cx: &StepContext, object: &str) -> Result<Option<Receipt>, StepError> {
        Ok(match self.spool.stored(cx, object).await? {
            Some(Stored::Audio(receipt)) if receipt.mark == cx.mark() => Some(receipt),
            // Another run's, which is on its way.
            Some(_) | None => None,
        })
    }
}

fn is_own(cx: &StepContext, there: &Stored) -> bool {
    matches!(there, Stored::Audio(receipt) if receipt.mark == cx.mark())
}

impl AudioSink for StorageSink {
    type Upload = StorageUpload;

    async fn stored(&self, cx: &StepContext, object: &str) -> Result<Option<Stored>, StepError> {
        let there = self.there(cx, object).await?;
        if there.as_ref().is_some_and(|there| is_own(cx, there)) {
            return Ok(there);
        }
        // Also where somebody else has taken the name meanwhile: this was paid, and is removed by
        // this step's undo alone.
        let spooled = self.spooled(cx, object).await?;
        Ok(spooled.map(Stored::Spooled).or(there))
    }

    async fn begin(&self, cx: &StepContext, object: &str) -> Result<StorageUpload, StepError> {
        // A bucket that is not there takes nothing, and is noticed before anything is paid.
        self.storage.info(cx, &self.bucket, object).await?;
        self.spool.begin(cx, object).await.map(StorageUpload)
    }

    async fn finish(
        &self,
        cx: &StepContext,
        object: &str,
        receipt: &Receipt,
    ) -> Result<(), StepError> {
        let labels = receipt.mark.labels();
        let mut metadata: BTreeMap<&str, String> = metadata(&labels);
        metadata.insert(RECEIPT, serde_json::to_string(receipt).unwrap_or_default());
        let upload = Upload {
            bucket: &self.bucket,
            path: object,
            content_type: &receipt.made.content_type,
            payload: Payload::File(self.spool.path(object)?, receipt.made.bytes),
            metadata,
        };
        // It stays in the spool until it was seen in the bucket.
        self.storage.upload(cx, upload).await
    }

    async fn tidy(&self, cx: &StepContext, object: &str) -> Result<(), StepError> {
        self.spool.remove(cx, object).await
    }

    async fn remove(&self, cx: &StepContext, object: &str) -> Result<(), StepError> {
        self.spool.remove(cx, object).await?;
        match self.there(cx, object).await? {
            Some(Stored::Audio(receipt)) if receipt.mark == cx.mark() => {
                self.storage.remove(cx, &self.bucket, object).await
            }
            // S11: not ours.
            Some(_) | None => Ok(()),
        }
    }
}

impl AudioUpload for StorageUpload {
    async fn write(&mut self, piece: &[u8]) -> Result<(), StepError> {
        self.0.write(piece).await
    }

    async fn commit(self, receipt: &Receipt) -> Result<(), StepError> {
        self.0.commit(receipt).await
    }
}
