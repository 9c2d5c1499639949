//! Installing certificates and keys as files, and making servers take them ([`crate::ports::Deployer`]).
//!
//! Refuses to know when: it installs what it is told, at once or not at all, and says why not.
//!
//! All sets of a credential are first written completely beside what is in use ("staged"), then swapped in one after the
//! other. What can fail for want of space, rights or names fails before anything in use is touched.

mod files;
mod place;
mod plain;
mod reload;
mod render;
mod versioned;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::adapters::deploy::files::Access;
use crate::adapters::deploy::place::Root;
use crate::adapters::deploy::render::{Material, formats};
use crate::domain::id::{AttemptId, CredentialId};
use crate::domain::inventory::{Environment, Format, Install, Layout, Reload};
use crate::ports::{Clock, Deployer, Doing, HostError, KeyStore};

/// Installs into the file system of this host and reloads servers on it.
pub struct FileDeployer {
    keys: Arc<dyn KeyStore>,
    root: Root,
    environment: Environment,
    clock: Arc<dyn Clock>,
}

impl core::fmt::Debug for FileDeployer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FileDeployer").field("root", &self.root).finish_non_exhaustive()
    }
}

impl FileDeployer {
    /// With a `sandbox`, every path that would be written leads to the same path below it. In
    /// [`Environment::Staging`] nothing is installed without one.
    #[must_use]
    pub fn new(
        keys: Arc<dyn KeyStore>,
        sandbox: Option<PathBuf>,
        environment: Environment,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { keys, root: Root::new(sandbox, environment), environment, clock }
    }

    async fn install_all(&self, installs: &[Install], slot: AttemptId) -> Result<(), HostError> {
        if installs.is_empty() {
            return Ok(());
        }
        each_target_once(installs)?;
        let (chain, pem) = self.keys.chain(slot).await?;
        let key = if installs.iter().flat_map(formats).any(Format::holds_key) {
            Some(self.keys.private_key(slot).await?)
        } else {
            None
        };
        let (root, installs) = (self.root.clone(), installs.to_vec());
        blocking(move || {
            let material = Material::new(&chain, &pem, key)?;
            let staged =
                installs.iter().map(|i| Staged::new(&root, i, &material, slot)).collect::<Result<Vec<_>, _>>()?;
            staged.into_iter().try_for_each(Staged::commit)
        })
        .await
    }
}

impl Deployer for FileDeployer {
    fn install<'a>(
        &'a self,
        credential: &'a CredentialId,
        installs: &'a [Install],
        slot: AttemptId,
    ) -> Doing<'a, Result<(), HostError>> {
        Box::pin(async move {
            let start = self.clock.boottime();
            let result = self.install_all(installs, slot).await;
            let took = self.clock.boottime().since(start);
            tracing::debug!(%credential, %slot, sets = installs.len(), ?took, ok = result.is_ok(), "install");
            result
        })
    }

    fn reload<'a>(
        &'a self,
        credential: &'a CredentialId,
        reload: &'a Reload,
        slot: AttemptId,
    ) -> Doing<'a, Result<(), HostError>> {
        Box::pin(async move {
            if self.environment == Environment::Staging && !reload.in_staging {
                tracing::info!(%credential, %slot, "no reload: this is staging, and the reload is not meant for it");
                return Ok(());
            }
            let start = self.clock.boottime();
            let result = reload::run(reload, credential, self.environment).await;
            let took = self.clock.boottime().since(start);
            tracing::debug!(%credential, %slot, ?took, ok = result.is_ok(), "reload");
            result
        })
    }

    fn prune<'a>(
        &'a self,
        _credential: &'a CredentialId,
        installs: &'a [Install],
        keep: &'a [AttemptId],
    ) -> Doing<'a, Result<(), HostError>> {
        let (root, installs, keep) = (self.root.clone(), installs.to_vec(), keep.to_vec());
        Box::pin(blocking(move || {
            installs.iter().try_for_each(|install| match &install.layout {
                Layout::Versioned { dir, .. } => versioned::prune(&root, dir, &keep),
                Layout::Plain { files } => plain::prune(&root, files),
            })
        }))
    }
}

/// Refuses two sets, or two files of one, in the same place: the second would undo the first.
fn each_target_once(installs: &[Install]) -> Result<(), HostError> {
    let mut taken = BTreeSet::new();
    let targets = installs.iter().flat_map(|install| match &install.layout {
        Layout::Versioned { dir, .. } => vec![dir.trim_end_matches('/')],
        Layout::Plain { files } => files.values().map(String::as_str).collect(),
    });
    for target in targets {
        if !taken.insert(target) {
            return Err(HostError(format!(
                "{target} is a target twice: give each set and each file a place of its own"
            )));
        }
    }
    Ok(())
}

/// A set that is written but not yet in use.
enum Staged {
    Versioned(versioned::Staged),
    Plain(plain::Staged),
}

impl Staged {
    fn new(root: &Root, install: &Install, material: &Material, slot: AttemptId) -> Result<Self, HostError> {
        if formats(install).is_empty() {
            return Err(HostError("an install without any file: name at least one format".to_owned()));
        }
        let access = Access::of(install)?;
        let rendering = material.for_install(install)?;
        match &install.layout {
            Layout::Versioned { dir, formats } => {
                versioned::stage(root, dir, formats, &access, &rendering, slot).map(Self::Versioned)
            }
            Layout::Plain { files } => plain::stage(root, files, &access, &rendering, slot).map(Self::Plain),
        }
    }

    fn commit(self) -> Result<(), HostError> {
        match self {
            Self::Versioned(staged) => staged.commit(),
            Self::Plain(staged) => staged.commit(),
        }
    }
}

/// Runs file work where it may wait for a disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| HostError(format!("the file work was broken off: {e}")))?
}
