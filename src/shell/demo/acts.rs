//! What the demo does once its gate is open, besides what happens by itself: traffic over both links, a rotation of the
//! intermediate, and a revocation.

use std::sync::Arc;

use core::time::Duration;

use crate::domain::id::{CaId, CredentialId, PathId};
use crate::domain::link::{Reason, Status};
use crate::domain::rotation::signer;
use crate::engine::Engine;
use crate::engine::authority::Authority;
use crate::ports::Clock;
use crate::shell::daemon::Running;
use crate::shell::link::Links;

use super::batch::BatchJob;
use super::mesh::{self, BATCH_JOB};
use super::rotation::Rotation;
use super::stage::{BY, Stage};
use super::tell::{complain, line};
use super::traffic::Traffic;
use super::{LOOK_EVERY, Options};

/// The traffic flows for so long before the rotation is ordered, so that there is something to be disturbed.
const BEFORE_ROTATION: Duration = Duration::from_secs(4);
/// The batch job comes so long after the new generation began to sign.
const BEFORE_BATCH_JOB: Duration = Duration::from_secs(5);
/// Its connection is let through for so long before it is revoked.
const BEFORE_REVOCATION: Duration = Duration::from_secs(2);

/// Everybody who takes part.
pub(super) struct Acts {
    engine: Arc<Engine>,
    authority: Arc<Authority>,
    links: Arc<Links>,
    clock: Arc<dyn Clock>,
    ca: CaId,
    path: PathId,
    door: std::net::SocketAddr,
    traffic: Traffic,
    /// A break is shown alone, with the traffic.
    whole: bool,
}

impl Acts {
    pub(super) fn new(running: &Running, stage: &Stage, path: PathId, options: &Options) -> Result<Self, String> {
        let authority = running.authority.clone().ok_or("the demo's configuration has no private CA")?;
        let [policy, _] = &stage.hops;
        Ok(Self {
            engine: running.engine.clone(),
            authority,
            links: running.parts.links.clone(),
            clock: running.wired.ports.clock.clone(),
            ca: mesh::id()?,
            path,
            door: policy.door,
            traffic: Traffic::new(&stage.hops),
            whole: options.break_.is_none(),
        })
    }

    /// What the traffic comes to, also while it flows.
    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Goes on until it is dropped.
    pub(super) async fn perform(&self) {
        self.until(|| self.engine.gate(&self.path).is_open() && self.links_are_open()).await;
        let _flowing = self.traffic.flow(&self.engine, &self.path);
        self.tell("traffic", "flows over both links, over new connections and over kept ones".to_owned());
        if self.whole
            && let Err(why) = self.rotate_and_revoke().await
        {
            complain(&why);
        }
        core::future::pending().await
    }

    async fn rotate_and_revoke(&self) -> Result<(), String> {
        let members = mesh::credentials().map(|id| CredentialId::parse(&id).map_err(|e| format!("{id} {e}")));
        let members = members.collect::<Result<_, _>>()?;
        let rotation = Rotation::new(self.engine.clone(), self.authority.clone(), self.ca.clone(), members);
        let rotation = rotation.map_err(|e| e.to_string())?;
        let orders = async {
            self.clock.sleep(BEFORE_ROTATION).await;
            let before = self.order_rotation().await?;
            self.until(|| self.signer() != before).await;
            self.clock.sleep(BEFORE_BATCH_JOB).await;
            self.revoke_batch_job().await
        };
        tokio::try_join!(self.watch(rotation), orders).map(drop)
    }

    /// Tells each phase as it is reached, with the traffic's count beside it.
    async fn watch(&self, mut rotation: Rotation) -> Result<(), String> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            for news in rotation.look().map_err(|e| e.to_string())? {
                self.tell("rotation", format!("{news} · {}", self.traffic.count()));
            }
        }
    }

    /// Orders it as `keyward ca rotate` does: what is not due at once, the controller's rounds do. Gives what signs still.
    async fn order_rotation(&self) -> Result<Option<u32>, String> {
        let before = self.signer();
        let refused = |e| format!("the rotation is not begun: {e}");
        self.authority.ask_rotation(&self.ca, "shown by keyward demo", BY).await.map_err(refused)?;
        self.tell("ROTATE", format!("a new intermediate is ordered: keyward ca rotate {}", self.ca));
        let (authority, ca) = (self.authority.clone(), self.ca.clone());
        tokio::spawn(async move {
            if let Err(error) = authority.rotate(&ca).await {
                complain(&format!("the rotation waits: {}: {error}", error.code()));
            }
        });
        Ok(before)
    }

    async fn revoke_batch_job(&self) -> Result<(), String> {
        let job = BatchJob::new(&self.authority, &self.ca, self.door).await?;
        let live = job.connect().await.map_err(|e| format!("the batch job is not let through: {e}"))?;
        self.tell(
            "batch job",
            format!("{BATCH_JOB} asks the policy engine over a connection of its own, and is answered"),
        );
        self.clock.sleep(BEFORE_REVOCATION).await;
        let order = format!("keyward ca revoke {} --reason key-compromise", job.serial);
        self.tell("REVOKE", format!("its key is in other hands: {order}"));
        let cut = job.revoked(&self.authority, live).await?.as_millis();
        let count = self.traffic.count();
        self.tell("revoked", format!("its live connection was cut {cut} ms after the order · {count}"));
        let before = self.refused_as_revoked();
        let why = match job.connect().await {
            Err(why) => why,
            Ok(_) => return Err("the batch job is revoked, and was let through again".to_owned()),
        };
        match self.refused_as_revoked() > before {
            true => self.tell("revoked", format!("its next connection is refused as revoked ({why})")),
            false => {
                return Err(format!("the batch job's next connection failed, but not because it is revoked: {why}"));
            }
        }
        Ok(())
    }

    /// How many peers the links have refused because they are revoked.
    fn refused_as_revoked(&self) -> u64 {
        let of = |link: &Status| link.refused.get(&Reason::Revoked).copied().unwrap_or_default();
        self.links.statuses().iter().map(of).fold(0, u64::saturating_add)
    }

    fn links_are_open(&self) -> bool {
        self.links.statuses().iter().all(|link| link.closed.is_none())
    }

    fn signer(&self) -> Option<u32> {
        let outlook = self.authority.outlook(&self.ca).ok()?;
        signer(&outlook.standing).map(|g| g.number)
    }

    async fn until(&self, met: impl Fn() -> bool) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        while !met() {
            look.tick().await;
        }
    }

    fn tell(&self, mark: &str, text: String) {
        line(&*self.clock, mark, &text);
    }
}
