//! Somebody else in the place of the gate's socket: what a proxy makes of silence and of wrong answers.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::fs::{self, Permissions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::shell::http::model::Interrupted;

/// A head is at most this long: as much as the gate itself takes.
const LONGEST_HEAD: usize = 16 * 1_024;
/// Whoever says nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the stand-in does with every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Takes it and says nothing.
    Silence,
    /// Hangs up.
    HangUp,
    /// Says these bytes and hangs up.
    Bytes(&'static str),
}

/// It stands there until it is dropped.
#[derive(Debug)]
pub(super) struct StandIn {
    path: PathBuf,
    own: (u64, u64),
    asked: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl StandIn {
    /// Takes the place with the owner and the mode of the socket that stood there.
    pub(super) fn take(place: &Interrupted, answer: Answer) -> Result<Self, String> {
        let path = PathBuf::from(&place.socket);
        let failed = |e: std::io::Error| format!("nobody can stand in at {}: {e}", path.display());
        let dir = path.parent().unwrap_or(Path::new("/"));
        let handle = fs::File::open(dir).map_err(failed)?;
        let name = format!(".keyward-probe-{}", std::process::id());
        // A socket address holds 107 bytes; the way through the open directory is always short.
        let short = PathBuf::from(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd()));
        let made = dir.join(&name);
        drop(fs::remove_file(&made));
        let listener = UnixListener::bind(&short).map_err(failed)?;
        let settled = (|| {
            std::os::unix::fs::chown(&made, Some(place.uid), Some(place.gid))?;
            fs::set_permissions(&made, Permissions::from_mode(place.mode))?;
            let meta = fs::symlink_metadata(&made)?;
            fs::rename(&made, &path)?;
            Ok((meta.dev(), meta.ino()))
        })();
        let own = settled.map_err(|e| {
            drop(fs::remove_file(&made));
            failed(e)
        })?;
        let asked = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(serve(listener, answer, asked.clone()));
        Ok(Self { path, own, asked, task })
    }

    /// How many requests came.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
        // Only what is ours: the daemon may have put the gate back already.
        if fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.own) {
            drop(fs::remove_file(&self.path));
        }
    }
}

async fn serve(listener: UnixListener, answer: Answer, asked: Arc<AtomicU64>) {
    // Each ends with the stand-in, or when its patience is over.
    let mut all = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while all.try_join_next().is_some() {}
        all.spawn(converse(stream, answer, asked.clone()));
    }
}

async fn converse(mut stream: UnixStream, answer: Answer, asked: Arc<AtomicU64>) {
    let talk = async {
        let mut head = Vec::new();
        let mut chunk = [0; 1_024];
        while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < LONGEST_HEAD {
            match stream.read(&mut chunk).await {
                Ok(n) if n > 0 => head.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Ok(_) | Err(_) => return,
            }
        }
        asked.fetch_add(1, Ordering::Relaxed);
        match answer {
            Answer::Silence => core::future::pending().await,
            Answer::HangUp => {}
            Answer::Bytes(bytes) => {
                // A proxy that hangs up has heard enough.
                drop(stream.write_all(bytes.as_bytes()).await);
                drop(stream.shutdown().await);
            }
        }
    };
    drop(tokio::time::timeout(PATIENCE, talk).await);
}
