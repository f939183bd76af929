//! A part of a file as the body of a request, read as it is sent.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;

/// The first bytes of a file.
#[derive(Debug, Clone)]
pub(super) struct FilePart {
    pub(super) path: PathBuf,
    pub(super) length: u64,
}

impl FilePart {
    /// Opens the file; nothing is read yet.
    pub(super) fn open(self) -> io::Result<FileBody> {
        let file = tokio::fs::File::from_std(std::fs::File::open(self.path)?);
        Ok(FileBody { file, left: self.length, piece: vec![0; PIECE].into_boxed_slice() })
    }
}

/// A body that knows its length, so that it is announced.
#[derive(Debug)]
pub(super) struct FileBody {
    file: tokio::fs::File,
    left: u64,
    piece: Box<[u8]>,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let most = usize::try_from(this.left).unwrap_or(usize::MAX).min(PIECE);
        let mut buffer = ReadBuf::new(this.piece.get_mut(..most).unwrap_or_default());
        ready!(Pin::new(&mut this.file).poll_read(cx, &mut buffer))?;
        let read = Bytes::copy_from_slice(buffer.filled());
        if read.is_empty() {
            // What was announced cannot come any more: the peer must not take it for whole.
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        this.left = this.left.saturating_sub(u64::try_from(read.len()).unwrap_or(u64::MAX));
        Poll::Ready(Some(Ok(Frame::data(read))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
