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
/// A machine that is lost with its folder at that moment loses the audio; then it is as if the
/// answer had been lost.
#[derive(Debug, Clone)]
pub struct StorageSink {
    storage: SupabaseStorage,
    bucket: String,
    spool: FileSink,
}

/// An upload under way: it is still in the spool.
#[derive(Debug)]
pub struct StorageUpload {
    sink: StorageSink,
    cx: StepContext,
    object: String,
    file: FileUpload,
}

impl StorageSink {
    /// Stores in this bucket, by way of this folder. Workers of one machine may share a folder.
    #[must_use]
    pub fn new(storage: &SupabaseStorage, bucket: impl Into<String>, spool: FileSink) -> Self {
        Self { storage: storage.clone(), bucket: bucket.into(), spool }
    }

    /// What is in the bucket under this name.
    async fn there(&self, cx: &StepContext, object: &str) -> Result<Option<Stored>, StepError> {
        let Some(shown) = self.storage.info(cx, &self.bucket, object).await? else {
            return Ok(None);
        };
        let receipt = shown.noted(RECEIPT).and_then(|text| serde_json::from_str(text).ok());
        // S11: somebody may have put another object there with a copy of the metadata.
        let receipt = receipt.filter(|receipt: &Receipt| {
            Some(receipt.made.bytes) == shown.size
                && mark_of(&shown).is_some_and(|mark| mark == receipt.mark)
        });
        Ok(Some(receipt.map_or(Stored::Other, Stored::Audio)))
    }

    /// Uploads what is spooled, and removes it from the spool.
    async fn upload(
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
        self.storage.upload(cx, upload).await?;
        self.spool.remove(cx, object).await
    }
}

impl AudioSink for StorageSink {
    type Upload = StorageUpload;

    async fn stored(&self, cx: &StepContext, object: &str) -> Result<Option<Stored>, StepError> {
        if let Some(there) = self.there(cx, object).await? {
            if matches!(&there, Stored::Audio(receipt) if receipt.mark == cx.mark()) {
                // An upload whose answer was lost has left it.
                self.spool.remove(cx, object).await?;
            }
            return Ok(Some(there));
        }
        match self.spool.stored(cx, object).await? {
            Some(Stored::Audio(receipt)) if receipt.mark == cx.mark() => {
                self.upload(cx, object, &receipt).await?;
                Ok(Some(Stored::Audio(receipt)))
            }
            // Another run's, which is on its way.
            Some(_) | None => Ok(None),
        }
    }

    async fn begin(&self, cx: &StepContext, object: &str) -> Result<StorageUpload, StepError> {
        let file = self.spool.begin(cx, object).await?;
        let (sink, cx) = (self.clone(), cx.clone());
        Ok(StorageUpload { sink, cx, object: object.to_owned(), file })
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
        self.file.write(piece).await
    }

    async fn commit(self, receipt: &Receipt) -> Result<(), StepError> {
        self.file.commit(receipt).await?;
        self.sink.upload(&self.cx, &self.object, receipt).await
    }
}
