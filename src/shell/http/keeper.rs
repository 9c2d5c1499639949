//! The gate's socket: moved aside for a probe, put back in time, and missed when somebody else takes its place.
//!
//! ```text
//! bound ─► aside (by consent, for a minute at most) ─► back: when told, when the time is up, when the daemon stops
//!   └──────► gone, or another's: people are told, nothing is touched
//! ```
//! The daemon moves it and puts it back, not the probe: a probe that is killed leaves nothing that is not mended within its
//! own deadline. While the socket is aside, gate checks are answered through no door but the admin socket, so that a proxy
//! that asks over TCP, or over a connection that it kept, misses its gate too.

use core::future::Future;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::time::Boottime;
use crate::engine::Engine;
use crate::ports::{Clock, Urgency};

/// The socket stays aside for at most this long at a time; a probe asks again for each of its cases.
pub(super) const LONGEST_ASIDE: Duration = Duration::from_secs(120);
/// How often it is looked whether the time is up.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Every so many looks the socket itself is looked at: each five seconds.
const LOOKS_A_CHECK: u32 = 20;
/// The socket is not where it belongs.
const DISPLACED: &str = "KW4405";
/// It was put back.
const PUT_BACK: &str = "KW4406";

/// Where a socket is while it is aside: in the same directory, so that a rename is all that moves it.
pub(super) fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().map_or_else(|| "gate".into(), |n| n.to_string_lossy().into_owned());
    path.with_file_name(format!(".{name}.aside"))
}

/// Removes what a daemon that was killed during a probe left aside; says so.
pub(super) fn sweep(path: &Path) -> Option<String> {
    let aside = aside(path);
    let found = fs::symlink_metadata(&aside).ok()?;
    let socket = found.file_type().is_socket();
    let dead = socket && std::os::unix::net::UnixStream::connect(&aside).is_err();
    if !dead {
        return Some(format!(
            "{} is there and is no socket of a process that ended; look whose it is",
            aside.display()
        ));
    }
    Some(match fs::remove_file(&aside) {
        Ok(()) => {
            format!("a probe was under way when the daemon ended; {} was left aside and is removed", aside.display())
        }
        Err(error) => format!("{} was left aside by a probe and cannot be removed: {error}", aside.display()),
    })
}

/// Device and inode: a rename keeps them.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// A socket that is aside.
#[derive(Clone, Copy, Debug)]
struct Aside {
    until: Boottime,
    /// Whose it is.
    token: u64,
}

/// Where the socket lies, and how a stand-in has to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) token: u64,
}

/// Why it is not moved.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAside {
    #[error("the gate's socket is aside already, for another probe; it is back within {} s", LONGEST_ASIDE.as_secs())]
    Busy,
    #[error("{} is not the socket that this daemon made; nothing was moved", path.display())]
    Displaced { path: PathBuf },
    #[error("the gate's socket {} cannot be moved: {source}", path.display())]
    Failed { path: PathBuf, source: io::Error },
}

/// Watches over the gate's socket.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    own: Option<Identity>,
    state: Mutex<(Option<Aside>, u64)>,
    /// The same, for every single request.
    muted: AtomicBool,
    /// Changes when kept connections have to end.
    kick: watch::Sender<u64>,
    /// What the last run left.
    found: Option<String>,
}

impl Keeper {
    /// For a socket that was just bound.
    pub(super) fn new(path: PathBuf, found: Option<String>) -> Self {
        let own = identity(&path);
        let state = Mutex::new((None, 0));
        Self { path, own, state, muted: AtomicBool::new(false), kick: watch::Sender::new(0), found }
    }

    /// Whether gates are answered to nobody but the admin socket.
    pub(super) fn is_muted(&self) -> bool {
        self.muted.load(Ordering::Acquire)
    }

    /// Changes when kept connections have to end.
    pub(super) fn kicks(&self) -> watch::Receiver<u64> {
        self.kick.subscribe()
    }

    /// Moves the socket aside, or leaves it there for longer if `token` is the one that was given before.
    pub(super) fn interrupt(&self, now: Boottime, span: Duration, token: Option<u64>) -> Result<Place, NotAside> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let until = now.plus(span.min(LONGEST_ASIDE));
        let failed = |source| NotAside::Failed { path: self.path.clone(), source };
        let token = match state.0 {
            Some(aside) if token != Some(aside.token) => return Err(NotAside::Busy),
            Some(aside) => aside.token,
            None => {
                if self.own.is_none() || identity(&self.path) != self.own {
                    return Err(NotAside::Displaced { path: self.path.clone() });
                }
                fs::rename(&self.path, aside(&self.path)).map_err(failed)?;
                state.1 = state.1.saturating_add(1);
                state.1
            }
        };
        state.0 = Some(Aside { until, token });
        self.muted.store(true, Ordering::Release);
        self.kick.send_modify(|n| *n = n.wrapping_add(1));
        drop(state);
        let meta = fs::symlink_metadata(aside(&self.path)).map_err(failed)?;
        let mode = meta.mode() & 0o777;
        Ok(Place { path: self.path.clone(), mode, uid: meta.uid(), gid: meta.gid(), token })
    }

    /// Puts the socket back, over whatever stands in its place; says whether it was aside.
    pub(super) fn restore(&self) -> Result<bool, NotAside> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let aside = aside(&self.path);
        let there = identity(&aside).is_some_and(|found| Some(found) == self.own);
        if there {
            let failed = |source| NotAside::Failed { path: self.path.clone(), source };
            fs::rename(&aside, &self.path).map_err(failed)?;
        }
        let was_aside = state.0.take().is_some() || there;
        self.muted.store(false, Ordering::Release);
        drop(state);
        if self.own.is_some() && identity(&self.path) != self.own {
            return Err(NotAside::Displaced { path: self.path.clone() });
        }
        Ok(was_aside)
    }

    fn is_overdue(&self, now: Boottime) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.is_some_and(|aside| now >= aside.until)
    }

    /// Puts it back in time, and tells people when it is gone. Ends with `stop`, with the socket in its place.
    pub(super) async fn watch(&self, engine: &Engine, clock: &dyn Clock, stop: impl Future<Output = ()>) {
        if let Some(found) = &self.found {
            tracing::warn!(code = PUT_BACK, "{found}");
            engine.tell("gate socket", PUT_BACK, Urgency::Routine, found.clone());
        }
        let mut stop = pin!(stop);
        let mut tick = tokio::time::interval(LOOK_EVERY);
        let (mut looks, mut missed) = (0_u32, false);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = tick.tick() => {}
            }
            if self.is_overdue(clock.boottime()) {
                self.put_back(engine);
            }
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS_A_CHECK) && !self.is_muted() {
                missed = self.check(engine, missed);
            }
        }
        if let Err(error) = self.restore() {
            tracing::warn!(code = DISPLACED, %error, "at the end");
        }
    }

    fn put_back(&self, engine: &Engine) {
        let (code, urgent, text) = match self.restore() {
            Ok(_) => {
                let text = "a probe left the gate's socket aside; its time was up, and the socket is back".to_owned();
                (PUT_BACK, Urgency::Routine, text)
            }
            Err(error) => (DISPLACED, Urgency::Act, format!("after a probe: {error}; restart keyward to bind it anew")),
        };
        tracing::warn!(code, "{text}");
        engine.tell("gate socket", code, urgent, text);
    }

    fn check(&self, engine: &Engine, missed: bool) -> bool {
        let gone = self.own.is_some() && identity(&self.path) != self.own;
        if gone && !missed {
            let what = if identity(&self.path).is_some() { "is another's" } else { "is gone" };
            let text = format!(
                "the gate's socket {} {what}: proxies do not ask this guardian any more; look who did that, then restart keyward",
                self.path.display()
            );
            tracing::error!(code = DISPLACED, "{text}");
            engine.tell("gate socket", DISPLACED, Urgency::Act, text);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Boottime = Boottime::from_boot(Duration::ZERO);

    fn keeper() -> (tempfile::TempDir, PathBuf, std::os::unix::net::UnixListener, Keeper) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let keeper = Keeper::new(path.clone(), None);
        (dir, path, listener, keeper)
    }

    #[test]
    fn a_socket_that_was_moved_aside_comes_back_over_whoever_took_its_place() {
        let (_dir, path, _listener, keeper) = keeper();
        let place = keeper.interrupt(NOW, Duration::from_secs(5), None).unwrap();
        assert!(!path.exists() && aside(&path).exists() && keeper.is_muted());
        assert!(matches!(keeper.interrupt(NOW, Duration::from_secs(5), None), Err(NotAside::Busy)));
        assert!(keeper.interrupt(NOW, Duration::from_secs(5), Some(place.token)).is_ok());
        let _standin = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(keeper.restore().unwrap() && !keeper.is_muted());
        assert_eq!((identity(&path), aside(&path).exists()), (keeper.own, false));
        assert!(!keeper.restore().unwrap(), "twice does no harm");
    }

    #[test]
    fn a_socket_of_somebody_else_is_not_moved() {
        let (_dir, path, _listener, keeper) = keeper();
        fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(keeper.interrupt(NOW, Duration::from_secs(5), None), Err(NotAside::Displaced { .. })));
        assert!(keeper.restore().is_err() && path.exists());
    }

    #[test]
    fn what_a_killed_daemon_left_aside_is_removed_and_said() {
        let (_dir, path, listener, keeper) = keeper();
        keeper.interrupt(NOW, Duration::from_secs(5), None).unwrap();
        assert!(sweep(&path).unwrap().contains("look whose"), "while somebody listens there it is left");
        drop(listener);
        assert!(sweep(&path).unwrap().contains("is removed"));
        assert_eq!((aside(&path).exists(), sweep(&path)), (false, None));
    }
}
