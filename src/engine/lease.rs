//! Leases, permits and proofs: what other programs may rely on, signed.
//!
//! The clocks are read first, then the verdict, then it is signed: whatever stops the process in between only makes the
//! statement shorter. A permit's entry is durable before the permit exists; after the commit the verdict is taken once
//! more, so an entry may tell of a permit that nobody got, and never the other way round.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::domain::audit::{Target, TargetKind};
use crate::domain::gate::{Reason, UNKNOWN_PATH, Verdict};
use crate::domain::id::{AudienceId, PathId};
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::lease::{
    Grant, Lease, Moment, NO_AUDIENCE, NO_KEY, NO_TIME, NOT_RECORDED, Permit, Span, TOO_MANY_PERMITS, check, span,
};
use crate::domain::statement::{Context, signed_bytes, text};
use crate::engine::Engine;
use crate::ports::{Batch, HostError, KeyStanding, SigningKey, StoreError};

/// So many permits wait for the disk at most: a store that writes 5,000 a second has done with them in a tenth of a second,
/// and they are a sixteenth of the rows that it takes.
const MOST_WAITING: usize = 512;

/// What the engine knows besides, to sign with.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    /// Size of the log right after this run's first entry.
    epoch: OnceLock<u64>,
    /// The last that was given.
    sequence: AtomicU64,
    /// Size and root of the log.
    head: RwLock<Option<(u64, String)>>,
    /// Permits that wait.
    waiting: AtomicUsize,
}

/// A statement that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<T> {
    /// As it travels.
    pub text: String,
    /// What it says.
    pub claims: T,
}

/// For which decision a permit is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The path that is to be open.
    pub path: PathId,
    /// Who will rely on it.
    pub audience: AudienceId,
    /// SHA-256 of the decision.
    pub decision: Digest,
}

impl Engine {
    /// Learns the epoch: the log was just given this run's first entry. It grows with every start, because the log only
    /// ever grows and one process at a time holds it.
    pub(super) async fn begin_epoch(&self) -> Result<(), StoreError> {
        let (size, _) = self
            .refresh_head()
            .await?
            .ok_or_else(|| StoreError::Damaged("the audit log has no checkpoint after its first entry".to_owned()))?;
        self.grants.epoch.get_or_init(|| size);
        Ok(())
    }

    /// Reads size and root of the log, for the leases of the next seconds.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read; leases name the one before then.
    pub async fn refresh_head(&self) -> Result<Option<(u64, String)>, StoreError> {
        let note = self.ports.store.checkpoint().await?;
        let head = note.as_deref().and_then(head_of);
        if head.is_some() {
            self.grants.head.write().unwrap_or_else(PoisonError::into_inner).clone_from(&head);
        }
        Ok(head)
    }

    /// The epoch of this run; `None` while the guardian is sealed.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.grants.epoch.get().copied()
    }

    /// Signs any kind of statement; the payload is canonical JSON.
    ///
    /// # Errors
    /// If there is no key.
    pub fn sign(&self, context: Context, payload: &[u8]) -> Result<String, HostError> {
        let signature = self.ports.signer.sign(&signed_bytes(context, payload))?;
        Ok(text(context, signature.key, payload, &signature.bytes))
    }

    /// The public keys of what is signed.
    #[must_use]
    pub fn statement_keys(&self) -> Vec<SigningKey> {
        self.ports.signer.keys()
    }

    /// A lease over a path for an audience.
    ///
    /// # Errors
    /// The verdict with the reasons for which there is none: it is closed in any case.
    pub fn lease(
        &self,
        path: &PathId,
        audience: &AudienceId,
        nonce: Option<&str>,
    ) -> Result<Given<Lease>, Box<Verdict>> {
        let (verdict, span, now) = self.grantable(path, audience)?;
        let grant = self.grant(&verdict, audience, &span, now)?;
        let log = self.grants.head.read().unwrap_or_else(PoisonError::into_inner).clone();
        let claims = Lease { grant, inputs: verdict.inputs, log, nonce: nonce.map(str::to_owned) };
        let signed = self.sign(Context::Lease, &claims.json().canonical());
        let text = signed.map_err(|e| deny(&verdict, now, NO_KEY, e.0, MENDED_KEY))?;
        Ok(Given { text, claims })
    }

    /// A permit for one decision. Its entry is durable before this returns one.
    ///
    /// # Errors
    /// As [`Engine::lease`].
    pub async fn permit(&self, wanted: &Wanted) -> Result<Given<Permit>, Box<Verdict>> {
        let (verdict, span, now) = self.grantable(&wanted.path, &wanted.audience)?;
        let Some(_place) = Waiting::take(&self.grants.waiting) else {
            let text = format!("{MOST_WAITING} permits wait for the disk");
            return Err(deny(&verdict, now, TOO_MANY_PERMITS, text, "fewer are asked for at once"));
        };
        let grant = self.grant(&verdict, &wanted.audience, &span, now)?;
        let mut draft = self.draft("gate.permit", "KW4201", Target::new(TargetKind::Path, &wanted.path));
        draft.facts = vec![
            ("audience", Json::show(&wanted.audience)),
            ("decision", Json::show(&wanted.decision)),
            ("epoch", Json::show(&grant.epoch)),
            ("sequence", Json::show(&grant.sequence)),
        ];
        if let Err(error) = self.commit(Batch { changes: Vec::new(), entries: vec![draft] }).await {
            let text = format!("nothing is permitted that cannot be recorded: {error}");
            return Err(deny(&verdict, now, NOT_RECORDED, text, "the audit log can be written again"));
        }
        // The disk took its time: what holds now is what counts.
        let (verdict, span, now) = self.grantable(&wanted.path, &wanted.audience)?;
        let claims = Permit {
            grant: Grant { sequence: grant.sequence, ..self.stamped(grant, &span) },
            decision: wanted.decision,
        };
        let signed = self.sign(Context::Permit, &claims.json().canonical());
        let text = signed.map_err(|e| deny(&verdict, now, NO_KEY, e.0, MENDED_KEY))?;
        Ok(Given { text, claims })
    }

    /// The signed statement over what a gate answers, for whoever sent a nonce.
    ///
    /// # Errors
    /// If there is no key.
    pub fn proof(&self, verdict: &Verdict, nonce: Option<&str>) -> Result<String, HostError> {
        let clock = &self.ports.clock;
        let boot_id = clock.boot_id();
        let said = check(verdict, &self.ports.signer.issuer(), nonce, clock.now(), (&boot_id, clock.boottime()));
        self.sign(Context::Check, &said.canonical())
    }

    /// Makes the next key; it signs nothing before [`Engine::advance_key`]. The entry names it.
    ///
    /// # Errors
    /// If it cannot be made, or not be recorded.
    pub async fn announce_key(&self, by: &Arc<str>) -> Result<String, HostError> {
        let next = self.ports.signer.announce().await?;
        self.tell_of_key("gate.key.announce", "KW4111", &next, by).await?;
        Ok(next)
    }

    /// The announced key signs from now on, and the one before it is destroyed. Recorded first.
    ///
    /// # Errors
    /// If none was announced, or it cannot be recorded: then nothing has changed.
    pub async fn advance_key(&self, by: &Arc<str>) -> Result<String, HostError> {
        let announced = self.statement_keys().into_iter().find(|k| k.standing == KeyStanding::Announced);
        let next = announced.ok_or_else(|| {
            HostError("no next key is announced; first `keyward gate rotate-key`, and let consumers pin it".into())
        })?;
        self.tell_of_key("gate.key.use", "KW4112", &next.text, by).await?;
        self.ports.signer.advance().await
    }

    async fn tell_of_key(
        &self,
        action: &'static str,
        code: &'static str,
        key: &str,
        by: &Arc<str>,
    ) -> Result<(), HostError> {
        let mut draft = self.draft(action, code, Target::new(TargetKind::Daemon, "keyward"));
        draft.by(&self.person(by));
        draft.facts = vec![("key", Json::str(key.to_owned()))];
        let written = self.commit(Batch { changes: Vec::new(), entries: vec![draft] }).await;
        written.map_err(|e| HostError(format!("audit_unavailable: it could not be recorded: {e}")))
    }

    /// The verdict and how long it may be relied on, if it may be at all.
    fn grantable(&self, path: &PathId, audience: &AudienceId) -> Result<(Verdict, Span, Moment), Box<Verdict>> {
        // Boot time first: whatever stops us after it shortens what is given.
        let boot = self.ports.clock.boottime();
        let now = Moment { wall: self.ports.clock.now(), boot };
        let (verdict, listed) = self.at_gate(path, |told| {
            let listed = told.path.is_none_or(|p| p.leases.audiences.contains(audience));
            (told.verdict.clone(), listed)
        });
        // Whoever is not listed learns nothing more about a path that is there.
        if !listed {
            let text = format!("{audience} is no audience of {path}");
            return Err(deny(
                &verdict,
                now,
                NO_AUDIENCE,
                text,
                "the configuration lists it in `audiences` of the path",
            ));
        }
        if !verdict.is_open() {
            return Err(Box::new(verdict));
        }
        // The loop looks at the clocks with every evaluation; a lease must not wait for it.
        if self.distrusts_clock() {
            let text = "the clocks have parted since the path was evaluated".to_owned();
            return Err(deny(&verdict, now, crate::domain::gate::CLOCK, text, "the clocks agree again"));
        }
        match span(&verdict, now) {
            Some(span) => Ok((verdict, span, now)),
            None => {
                let weakest = verdict.weakest.as_deref().unwrap_or("what the path stands on").to_owned();
                let text = format!("{weakest} is vouched for until {} only: no time is left", verdict.until);
                Err(deny(&verdict, now, NO_TIME, text, "the credential is renewed and seen to be served"))
            }
        }
    }

    fn grant(&self, verdict: &Verdict, audience: &AudienceId, span: &Span, now: Moment) -> Result<Grant, Box<Verdict>> {
        let Some(epoch) = self.epoch() else {
            let text = "this run of the guardian has no epoch".to_owned();
            return Err(deny(verdict, now, NO_KEY, text, MENDED_KEY));
        };
        let grant = Grant {
            issuer: self.ports.signer.issuer().to_string(),
            audience: audience.clone(),
            path: verdict.path.clone(),
            environment: self.board().estate.environment,
            epoch,
            sequence: self.grants.sequence.fetch_add(1, Ordering::Relaxed).saturating_add(1),
            boot_id: self.ports.clock.boot_id().to_string(),
            boot_now: span.boot_now,
            boot_expires: span.boot_expires,
            not_before: span.not_before,
            expires: span.expires,
        };
        Ok(grant)
    }

    fn stamped(&self, grant: Grant, span: &Span) -> Grant {
        Grant {
            boot_now: span.boot_now,
            boot_expires: span.boot_expires,
            not_before: span.not_before,
            expires: span.expires,
            ..grant
        }
    }
}

const MENDED_KEY: &str = "the state directory is mended and the guardian is started again";

/// The verdict, closed for one more reason.
fn deny(verdict: &Verdict, now: Moment, code: &'static str, text: String, reopens: &'static str) -> Box<Verdict> {
    let mut denied = verdict.clone();
    // An unknown path has no audiences to speak of.
    if !denied.reasons.iter().any(|r| r.code == UNKNOWN_PATH) {
        denied.reasons.push(Reason { code, credential: None, text, reopens });
    }
    denied.until = now.wall;
    Box::new(denied)
}

/// Size and root of a checkpoint: its second and third line (C2SP tlog-checkpoint).
fn head_of(note: &str) -> Option<(u64, String)> {
    let mut lines = note.lines().skip(1);
    let size = lines.next()?.parse().ok()?;
    Some((size, lines.next()?.to_owned()))
}

/// A place among those that wait; given back when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::AcqRel);
        let place = Self(waiting);
        (before < MOST_WAITING).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
