//! Starts the key holder and keeps it running, where the configuration asks the daemon to.
//!
//! It is this program in another process. It ends with the daemon, however that ends: its standard input is a pipe that the
//! daemon holds.

use core::future::Future;
use core::pin::pin;
use core::time::Duration;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use crate::ports::{Clock, Entropy};
use crate::shell::config::{KeyholderSettings, Passphrase};
use crate::shell::files::create;

/// After it ended it is started again so soon, twice as late each time, at most [`LATEST`].
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(60);
/// Whoever ran so long has started well.
const WELL: Duration = Duration::from_secs(60);

/// What it takes to start it.
pub(super) struct Start {
    settings: KeyholderSettings,
    log_keys: std::path::PathBuf,
    clock: Arc<dyn Clock>,
}

impl Start {
    /// Writes what it is told: the keys of the log, and a passphrase if none was given.
    ///
    /// # Errors
    /// One sentence: which file cannot be written.
    pub(super) fn new(
        settings: &KeyholderSettings,
        state: &Path,
        keys: &[String],
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
    ) -> Result<Self, String> {
        let log_keys = state.join("keyholder.logkeys");
        let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
        replace(&log_keys, text.as_bytes()).map_err(|e| format!("{} cannot be written: {e}", log_keys.display()))?;
        if let Passphrase::File(path) = &settings.passphrase
            && !path.exists()
            && path.starts_with(state)
        {
            let failed = |e: &dyn core::fmt::Display| format!("{} cannot be made: {e}", path.display());
            let text = passphrase(entropy).map_err(|e| failed(&e))?;
            create(path, 0o600, &*text).map_err(|e| failed(&e))?;
        }
        Ok(Self { settings: settings.clone(), log_keys, clock })
    }

    /// Keeps it running until `stop` is ready.
    pub(super) async fn keep(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut wait = SOONEST;
        loop {
            let began = self.clock.boottime();
            match self.spawn() {
                Ok(mut child) => {
                    // Waiting would close it, and the holder with it.
                    let input = child.stdin.take();
                    tokio::select! {
                        () = &mut stop => {
                            drop(input);
                            return end(child).await;
                        }
                        ended = child.wait() => tracing::error!(?ended, "the key holder ended; it is started again"),
                    }
                }
                Err(error) => tracing::error!(%error, "the key holder cannot be started; it is tried again"),
            }
            if self.clock.boottime().since(began) > WELL {
                wait = SOONEST;
            }
            tokio::select! {
                () = &mut stop => return,
                () = self.clock.sleep(wait) => {}
            }
            wait = wait.saturating_mul(2).min(LATEST);
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let own = std::env::current_exe()?;
        let mut command = Command::new(own);
        command.arg("keyholder").arg("--socket").arg(&self.settings.socket);
        command.arg("--directory").arg(&self.settings.directory).arg("--log-key").arg(&self.log_keys);
        // What a configuration may ask for, and a minute for clocks that are behind.
        command.args(["--max-leaf-days", "399", "--max-ca-days", "9126", "--max-crl-days", "91"]);
        command.arg("--ends-with-input").args(self.settings.user.iter().flat_map(|user| ["--user", user]));
        if self.settings.user.is_some() {
            // The daemon asks, not the holder's own user.
            command.arg("--peer").arg(rustix::process::geteuid().as_raw().to_string());
        }
        match &self.settings.passphrase {
            Passphrase::File(path) => command.arg("--passphrase-file").arg(path),
            // The last: it takes all that follows.
            Passphrase::Command(words) => command.arg("--passphrase-command").args(words),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn()
    }
}

/// A line that nobody can guess. It is encoded where it is wiped: a string on the way would stay behind in freed memory.
fn passphrase(entropy: &dyn Entropy) -> Result<Zeroizing<[u8; 44]>, base64::EncodeSliceError> {
    let mut random = Zeroizing::new([0_u8; 32]);
    entropy.fill(&mut *random);
    // 32 bytes are 43 characters; the last is the end of the line.
    let mut text = Zeroizing::new([b'\n'; 44]);
    URL_SAFE_NO_PAD.encode_slice(random.as_slice(), &mut *text)?;
    Ok(text)
}

async fn end(mut child: Child) {
    drop(tokio::time::timeout(Duration::from_secs(2), child.wait()).await);
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    create(&new, 0o600, bytes)?;
    std::fs::rename(new, path)
}
