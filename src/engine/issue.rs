//! One attempt at the CA: key, order, challenges, certificate. Every arrow of [`crate::domain::execution`] is a commit.

use core::time::Duration;
use std::sync::Arc;

use crate::domain::audit::{Outcome, Phase};
use crate::domain::execution::{Attempt, Fault, Stage, Trigger};
use crate::domain::inventory::{Credential, Managed};
use crate::domain::json::Json;
use crate::domain::limits::order_spends;
use crate::domain::plan::{Action, ActionKind, ledger_changes, spender};
use crate::domain::policy::Leave;
use crate::domain::state::{Change, IssuerRecord};
use crate::engine::cycle::{act_of, decision};
use crate::engine::record::{NO_KEY, Setback};
use crate::engine::{Engine, Event, at_once};
use crate::ports::{
    AuthorizationView, Batch, ChallengeTask, ChallengeView, Doing, Expected, IssuerError, IssuerErrorKind,
    OrderRequest, OrderStatus, OrderView, StoreError,
};

/// An order that is not done after this long is put aside; it goes on later at the same URL.
const ORDER_DEADLINE: Duration = Duration::from_secs(300);
/// Polls of an order start here and double: a local CA answers in milliseconds.
const FIRST_POLL: Duration = Duration::from_millis(4);
/// Polls of an order never grow beyond this.
const LONGEST_POLL: Duration = Duration::from_secs(5);
/// A CA's wish for the next poll counts up to this.
const LONGEST_POLL_WISH: Duration = Duration::from_secs(60);
/// Transport failures that are retried at once, with a second between, before the attempt is put aside.
const QUICK_RETRIES: u32 = 2;
/// So many challenges of one order are handled at once.
const CHALLENGES_AT_ONCE: usize = 8;
/// An attempt that was put aside this often, while another issuer is configured, makes room for it.
const PATIENCE_WITH_ALTERNATIVE: u32 = 2;
/// An attempt that was put aside this often is given up: its order has long expired.
const PATIENCE: u32 = 64;

/// A key store that fails is given so many more chances before the key and its order are given up.
const PATIENCE_WITH_KEYS: u32 = 3;
/// An order becomes ready and is finalized at once; whoever makes more progress than this is a CA that goes round in
/// circles, and is only polled.
const MOST_PROGRESS: u32 = 2;

/// What came of one stage.
pub(crate) enum Step {
    /// The attempt's stage changed.
    Next,
    /// It is over.
    Done,
    /// Later, from the same stage.
    Park(Setback),
    /// For good; a new attempt will follow.
    Fail(Setback),
    /// Nothing can be recorded, so nothing more is done.
    Unrecorded,
}

/// Whether what came of it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is: the planner may look at once.
    Recorded,
    /// It is not: the attempt stands where it stood, and going on at once would repeat the same for ever.
    Unrecorded,
}

impl Ending {
    fn of(recorded: &Result<(), StoreError>) -> Self {
        if recorded.is_ok() { Self::Recorded } else { Self::Unrecorded }
    }
}

impl From<StoreError> for Step {
    fn from(_: StoreError) -> Self {
        Self::Unrecorded
    }
}

impl Engine {
    /// Carries an attempt as far as it gets, by leave of policy.
    pub(crate) fn pursue(&self, mut attempt: Arc<Attempt>, resumed: bool, _: Leave) -> Doing<'_, Event> {
        Box::pin(async move {
            let (id, credential) = (attempt.id, attempt.credential.clone());
            let ending = self.pursue_stages(&mut attempt, resumed).await;
            Event::Ended(id, credential, ending)
        })
    }

    async fn pursue_stages(&self, attempt: &mut Arc<Attempt>, resumed: bool) -> Ending {
        // An order of an earlier life may have left responses that are known to nobody any more.
        let cut_off = resumed && matches!(attempt.stage, Stage::Ordered { .. });
        // Made durable once in a run, used in two stages.
        let mut csr = None;
        loop {
            let known = {
                let desk = self.read();
                desk.estate.credentials.get(&attempt.credential).cloned()
            };
            let Some(credential) = known.filter(|c| c.managed().is_some()) else {
                return Ending::of(&self.abandon(attempt).await);
            };
            let Some(managed) = credential.managed() else { return Ending::Recorded };
            // Begun before the clock parted: nothing is judged by a time that is not believed.
            if self.distrusts_clock() {
                return Ending::Unrecorded;
            }
            // The rules may have become others since it was begun: then the planner asks them, and says what they say.
            if self.is_withheld(attempt) {
                return Ending::Recorded;
            }
            let url: Arc<str> = match &attempt.stage {
                Stage::Ordered { url } => url.clone(),
                Stage::Begun | Stage::Issued => Arc::from(""),
            };
            let step = match attempt.stage {
                Stage::Begun => self.order(attempt, &credential, managed, resumed, &mut csr).await,
                Stage::Ordered { .. } => self.obtain(attempt, managed, &url, csr.take(), cut_off).await,
                Stage::Issued => {
                    self.unsettle(&credential.id);
                    let step = self.install(attempt, &credential, managed).await;
                    self.settle(&credential);
                    step
                }
            };
            // What cannot be recorded stays as it is durable, and is taken up again from there.
            let recorded = match step {
                Step::Next => {
                    continue;
                }
                Step::Done => return Ending::Recorded,
                Step::Unrecorded => return Ending::Unrecorded,
                Step::Fail(setback) => self.fail(attempt, &url, setback).await,
                Step::Park(setback) => {
                    let at_ca = attempt.stage != Stage::Issued;
                    let enough = attempt.failures >= PATIENCE
                        || (managed.issuers.len() > 1 && attempt.failures >= PATIENCE_WITH_ALTERNATIVE);
                    if at_ca && enough {
                        self.fail(attempt, &url, setback).await
                    } else {
                        self.park(attempt, &url, setback).await
                    }
                }
            };
            return Ending::of(&recorded);
        }
    }

    /// The credential is not configured any more: nothing of the attempt is needed.
    pub(super) async fn abandon(&self, attempt: &Attempt) -> Result<(), StoreError> {
        let action = if attempt.stage == Stage::Issued { "certificate.install" } else { "certificate.issue" };
        let mut draft = self.outcome(attempt, action, "KW2008", Outcome::Denied);
        draft.facts.push(("text", Json::str("the credential is not configured any more")));
        self.commit(Batch { changes: vec![Change::AttemptEnded(attempt.id)], entries: vec![draft] }).await?;
        self.destroy_unused(attempt).await;
        Ok(())
    }

    /// `Begun` → `Ordered`: key and CSR first, then exactly one order.
    async fn order(
        &self,
        attempt: &mut Arc<Attempt>,
        credential: &Credential,
        managed: &Managed,
        resumed: bool,
        csr: &mut Option<Vec<u8>>,
    ) -> Step {
        if let Err(setback) = self.demand_quorum(credential, attempt.trigger.act()).await {
            return Step::Park(setback);
        }
        if let Some(step) = self.stopped_by_freeze(attempt, credential).await {
            return step;
        }
        match self.key(attempt, managed).await {
            Ok(made) => *csr = Some(made),
            Err(setback) => return if resumed { keep_trying(attempt, setback) } else { Step::Fail(setback) },
        }
        // Making a key takes a moment.
        if let Some(step) = self.stopped_by_freeze(attempt, credential).await {
            return step;
        }
        if self.is_withheld(attempt) {
            return Step::Done;
        }
        let mut unsure = resumed;
        let mut tries = 0_u32;
        let url = loop {
            let request = OrderRequest {
                names: attempt.names.clone(),
                profile: managed.profile.clone(),
                replaces: attempt.replaces.clone(),
                spiffe: managed.spiffe.clone(),
            };
            match self.order_once(attempt, &request, unsure).await {
                Ok(url) => break url,
                Err(e) if e.kind == IssuerErrorKind::Replaces && attempt.replaces.is_some() => {
                    if let Some(step) = self.without_replaces(attempt, e).await {
                        return step;
                    }
                }
                Err(e) if e.kind == IssuerErrorKind::Retry && tries < QUICK_RETRIES => {
                    tries = tries.saturating_add(1);
                    unsure = true;
                    self.ports.clock.sleep(Duration::from_secs(1)).await;
                }
                Err(e) if e.kind == IssuerErrorKind::Retry => return Step::Park(Setback::issuer(e)),
                Err(e) => return Step::Fail(Setback::issuer(e)),
            }
        };
        let stage = Stage::Ordered { url: url.clone() };
        let next = Arc::new(Attempt { stage, failures: 0, not_before: None, ..Attempt::clone(attempt) });
        let mut draft = self.draft_for(attempt, "certificate.order", "KW2002");
        draft.facts = vec![
            ("issuer", Json::shared(&attempt.issuer)),
            ("order_url", Json::str(crate::domain::audit::bounded_text(&url))),
        ];
        let batch = Batch { changes: vec![Change::Attempt(next.clone())], entries: vec![draft] };
        if let Err(error) = self.commit(batch).await {
            return error.into();
        }
        *attempt = next;
        Step::Next
    }

    /// Whether policy would not let it go on now.
    fn is_withheld(&self, attempt: &Attempt) -> bool {
        let (desk, now) = (self.read(), self.ports.clock.now());
        let action = Action { credential: attempt.credential.clone(), kind: ActionKind::Resume(attempt.id) };
        let act = act_of(&action, &desk);
        decision(&desk, &attempt.credential, act, Some(&attempt.issuer), now).leave().is_err()
    }

    /// Ends an attempt that a freeze met after it was planned.
    async fn stopped_by_freeze(&self, attempt: &Attempt, credential: &Credential) -> Option<Step> {
        let found = self.read().frozen(credential, &attempt.issuer, self.ports.clock.now())?;
        Some(self.stop_frozen(attempt, &found).await)
    }

    /// One try to have an order: looks for an existing one first where an earlier newOrder may have arrived.
    async fn order_once(
        &self,
        attempt: &Attempt,
        request: &OrderRequest,
        unsure: bool,
    ) -> Result<Arc<str>, IssuerError> {
        if unsure
            && let Some(url) = self.ports.issuer.find_order(&attempt.issuer, request).await?
            && !self.is_anothers(attempt, &url)
        {
            return Ok(url);
        }
        let url = self.ports.issuer.new_order(&attempt.issuer, request).await?;
        if self.is_anothers(attempt, &url) {
            return Err(IssuerError {
                kind: IssuerErrorKind::Retry,
                fault: Fault::Ours,
                text: format!("{} gave the order of another attempt for the same names again", attempt.issuer),
                problem: None,
                subproblems: Vec::new(),
                retry_after: None,
                link: None,
            });
        }
        Ok(url)
    }

    /// Whether the order belongs to another attempt: with another key it would be worthless.
    fn is_anothers(&self, attempt: &Attempt, url: &str) -> bool {
        let theirs = |a: &Arc<Attempt>| matches!(&a.stage, Stage::Ordered { url: theirs } if **theirs == *url);
        self.read().state.attempts.values().any(|a| theirs(a) && a.id != attempt.id)
    }

    /// The CA does not take `replaces`: the order goes on without it, and then it counts against the limits.
    async fn without_replaces(&self, attempt: &mut Arc<Attempt>, error: IssuerError) -> Option<Step> {
        Arc::make_mut(attempt).replaces = None;
        let now = self.ports.clock.now();
        let changes = {
            let desk = self.read();
            let spender = spender(&attempt.trigger, &desk.state.credential(&attempt.credential));
            let limits = desk.estate.issuers.get(&attempt.issuer).map(|i| i.limits.clone()).unwrap_or_default();
            let spends = order_spends(&attempt.issuer, &limits, &attempt.names);
            if let Err(e) = desk.state.ledger.check(&spends, spender, now) {
                let text = format!(
                    "{error}; and without it the limit {} is reached until {}",
                    e.bucket.kind().as_str(),
                    e.until
                );
                return Some(Step::Fail(Setback::new("KW3002", Fault::Ours, text)));
            }
            ledger_changes(&desk.state.ledger, &spends, now)
        };
        let mut draft = self.draft_for(attempt, "certificate.order", "KW3003");
        draft.private.push(("text", Arc::from(crate::domain::audit::bounded_text(&error.to_string()))));
        let mut batch = Batch { changes, entries: vec![draft] };
        batch.changes.push(Change::Attempt(attempt.clone()));
        self.commit(batch).await.err().map(Step::from)
    }

    async fn key(&self, attempt: &Attempt, managed: &Managed) -> Result<Vec<u8>, Setback> {
        let previous =
            self.read().state.credentials.get(&attempt.credential).and_then(|r| r.current.as_ref()).map(|g| g.slot);
        self.ports
            .keys
            .prepare(attempt.id, managed.key, &attempt.names, managed.key_reuse, previous)
            .await
            .map_err(|e| Setback::host(NO_KEY, format!("the key could not be made: {e}")))
    }

    /// `Ordered` → `Issued`. Challenge responses are taken away again however this ends.
    async fn obtain(
        &self,
        attempt: &mut Arc<Attempt>,
        managed: &Managed,
        url: &str,
        csr: Option<Vec<u8>>,
        cut_off: bool,
    ) -> Step {
        let csr = match csr {
            Some(csr) => csr,
            None => match self.key(attempt, managed).await {
                Ok(csr) => csr,
                Err(setback) => return keep_trying(attempt, setback),
            },
        };
        let mut presented = Vec::new();
        let step = self.follow_order(attempt, managed, url, &csr, &mut presented).await;
        // What is put aside once more is cleared up when it ends.
        if cut_off && !matches!(step, Err(Step::Park(_))) {
            self.left_behind(attempt, managed, url, &mut presented).await;
        }
        let cleanups = presented.iter().map(|(solver, task)| self.ports.solver.cleanup(solver, task)).collect();
        for error in at_once(CHALLENGES_AT_ONCE, cleanups).await.into_iter().filter_map(Result::err) {
            let text = format!("a challenge response was not taken away: {error}");
            self.notify(&attempt.credential, "KW2102", crate::ports::Urgency::Routine, text);
        }
        match step {
            Ok(chain_pem) => self.keep(attempt, managed, &chain_pem, url).await,
            Err(step) => step,
        }
    }

    /// Adds the responses of an earlier life to those of this one. What cannot be found out stays: it proves nothing any
    /// more, and costs a file or a record.
    async fn left_behind(&self, attempt: &Attempt, managed: &Managed, url: &str, presented: &mut Vec<Presented>) {
        let decided = self.ports.issuer.decided(&attempt.issuer, url).await.unwrap_or_default();
        for authorization in decided {
            let Some((solver, challenge)) = self.choose(managed, &authorization) else { continue };
            let task = task_of(&authorization, challenge);
            if !presented.iter().any(|(_, t)| *t == task) {
                presented.push((solver, task));
            }
        }
    }

    /// Polls the order to its end and does what its status asks for; gives the downloaded chain.
    async fn follow_order(
        &self,
        attempt: &Attempt,
        managed: &Managed,
        url: &str,
        csr: &[u8],
        presented: &mut Vec<Presented>,
    ) -> Result<String, Step> {
        let began = self.ports.clock.boottime();
        let mut wait = FIRST_POLL;
        let (mut hiccups, mut progress) = (0_u32, 0_u32);
        loop {
            if self.ports.clock.boottime().since(began) > ORDER_DEADLINE {
                let text = format!("the order at {} was not done in {} s", attempt.issuer, ORDER_DEADLINE.as_secs());
                return Err(Step::Park(Setback::new("KW3009", Fault::Issuer, text)));
            }
            let turn = match self.ports.issuer.order(&attempt.issuer, url).await {
                Ok(view) => self.answer_status(attempt, managed, url, csr, presented, view).await,
                Err(error) => Err(error),
            };
            match turn {
                Ok(Turn::Certificate(pem)) => return Ok(pem),
                Ok(Turn::Failed(setback)) => return Err(Step::Fail(setback)),
                Ok(Turn::Progress) if progress < MOST_PROGRESS => {
                    progress = progress.saturating_add(1);
                    wait = FIRST_POLL;
                }
                Ok(Turn::Progress) => {
                    self.ports.clock.sleep(wait).await;
                    wait = wait.saturating_mul(2).min(LONGEST_POLL);
                }
                Ok(Turn::Poll(wish)) => {
                    let floor = wish.unwrap_or_default().min(LONGEST_POLL_WISH);
                    self.ports.clock.sleep(wait.max(floor)).await;
                    wait = wait.saturating_mul(2).min(LONGEST_POLL);
                }
                Err(e) if e.kind == IssuerErrorKind::Retry && hiccups < QUICK_RETRIES => {
                    hiccups = hiccups.saturating_add(1);
                    self.ports.clock.sleep(Duration::from_secs(1)).await;
                }
                Err(e) if e.kind == IssuerErrorKind::Retry => return Err(Step::Park(Setback::issuer(e))),
                Err(e) => return Err(Step::Fail(Setback::issuer(e))),
            }
        }
    }

    async fn answer_status(
        &self,
        attempt: &Attempt,
        managed: &Managed,
        url: &str,
        csr: &[u8],
        presented: &mut Vec<Presented>,
        view: OrderView,
    ) -> Result<Turn, IssuerError> {
        match view.status {
            OrderStatus::Pending if presented.is_empty() && view.authorizations.iter().any(|a| !a.valid) => {
                match self.respond(attempt, managed, &view.authorizations, presented).await? {
                    Some(setback) => Ok(Turn::Failed(setback)),
                    None => Ok(Turn::Progress),
                }
            }
            OrderStatus::Pending | OrderStatus::Processing => Ok(Turn::Poll(view.retry_after)),
            OrderStatus::Ready => {
                // A lost answer is no loss: the order is looked at again, and shows whether the CA took the CSR.
                self.ports.issuer.finalize(&attempt.issuer, url, csr).await?;
                Ok(Turn::Progress)
            }
            OrderStatus::Valid => self.ports.issuer.download(&attempt.issuer, url).await.map(Turn::Certificate),
            OrderStatus::Invalid => Ok(Turn::Failed(view.error.map_or_else(
                || Setback::new("KW3004", Fault::Issuer, "the CA made the order invalid and does not say why"),
                Setback::issuer,
            ))),
        }
    }

    /// Puts every missing response in place and tells the CA to look.
    async fn respond(
        &self,
        attempt: &Attempt,
        managed: &Managed,
        authorizations: &[AuthorizationView],
        presented: &mut Vec<Presented>,
    ) -> Result<Option<Setback>, IssuerError> {
        let mut urls = Vec::new();
        for authorization in authorizations.iter().filter(|a| !a.valid) {
            let Some((solver, challenge)) = self.choose(managed, authorization) else {
                let offered: Vec<&str> = authorization.challenges.iter().map(|c| c.kind.as_str()).collect();
                let text = format!(
                    "the CA offers {} for {}, and no configured solver can do any of these",
                    if offered.is_empty() { "no known challenge".to_owned() } else { offered.join(", ") },
                    authorization.name
                );
                return Ok(Some(Setback::new("KW2103", Fault::Ours, text)));
            };
            presented.push((solver, task_of(authorization, challenge)));
            urls.push(challenge.url.clone());
        }
        let presents = presented.iter().map(|(solver, task)| self.ports.solver.present(solver, task)).collect();
        let results = at_once(CHALLENGES_AT_ONCE, presents).await;
        if let Some(error) = results.into_iter().find_map(Result::err) {
            return Ok(Some(Setback::new("KW2104", error.fault, error.text)));
        }
        let ready = urls.iter().map(|url| self.tell_ready(attempt, url)).collect();
        let told: Vec<Result<(), IssuerError>> = at_once(CHALLENGES_AT_ONCE, ready).await;
        // The CA may already be validating: what it thinks of the order shows at the next look.
        match told.into_iter().find_map(Result::err) {
            Some(e) if e.kind == IssuerErrorKind::Account => Err(e),
            _ => Ok(None),
        }
    }

    /// Tells the CA to look. A lost request is sent again: nobody else would, and the order would wait until its deadline.
    fn tell_ready<'a>(&'a self, attempt: &'a Attempt, url: &'a str) -> Doing<'a, Result<(), IssuerError>> {
        Box::pin(async move {
            for _ in 0..QUICK_RETRIES {
                match self.ports.issuer.challenge_ready(&attempt.issuer, url).await {
                    Err(e) if e.kind == IssuerErrorKind::Retry => {
                        self.ports.clock.sleep(Duration::from_secs(1)).await;
                    }
                    told => return told,
                }
            }
            self.ports.issuer.challenge_ready(&attempt.issuer, url).await
        })
    }

    /// The first configured solver that can do a challenge which the CA offers.
    fn choose<'c>(
        &self,
        managed: &Managed,
        authorization: &'c AuthorizationView,
    ) -> Option<(crate::domain::id::SolverId, &'c crate::ports::ChallengeView)> {
        managed.solvers.iter().find_map(|solver| {
            let kinds = self.ports.solver.kinds(solver, &authorization.name);
            let challenge = authorization.challenges.iter().find(|c| kinds.contains(&c.kind))?;
            Some((solver.clone(), challenge))
        })
    }

    /// Checks the chain, makes it durable, and records that the certificate is there: `Issued`.
    async fn keep(&self, attempt: &mut Arc<Attempt>, managed: &Managed, pem: &str, url: &str) -> Step {
        let now = self.ports.clock.now();
        let expected = Expected { names: &attempt.names, spiffe: managed.spiffe.as_ref() };
        let accepted = match self.ports.keys.accept(attempt.id, &attempt.issuer, pem, expected, now).await {
            Ok(accepted) => accepted,
            Err(_) if self.distrusts_clock() => return Step::Unrecorded,
            Err(error) => {
                let text = format!("{} issued what must not be installed: {error}", attempt.issuer);
                return Step::Fail(Setback::new("KW3010", Fault::Issuer, text));
            }
        };
        let leaf = &accepted.chain.leaf;
        let mut done = self.outcome(attempt, "certificate.issue", "KW2003", Outcome::Success);
        done.target.serial = Some(leaf.serial.clone());
        done.target.spki = Some(leaf.spki);
        done.facts = vec![
            ("fingerprint", Json::Hash(leaf.fingerprint)),
            ("issuer", Json::shared(&attempt.issuer)),
            ("names", Json::shared(&leaf.names)),
            ("not_after", Json::Time(leaf.validity.not_after)),
        ];
        done.evidence = self.acme_evidence(&attempt.issuer, url);
        let mut intent = self.draft_for(attempt, "certificate.install", "KW2004");
        intent.phase = Phase::Intent;
        intent.target.serial = Some(leaf.serial.clone());
        let next = Arc::new(Attempt {
            stage: Stage::Issued,
            failures: 0,
            not_before: None,
            intent: intent.id,
            ..Attempt::clone(attempt)
        });
        let good = IssuerRecord {
            failures: 0,
            open_until: None,
            last_success: Some(now),
            terms: self.read().state.issuers.get(&attempt.issuer).and_then(|r| r.terms.clone()),
        };
        let mut changes = vec![Change::Attempt(next.clone()), Change::Issuer(attempt.issuer.clone(), good)];
        if !matches!(attempt.trigger, Trigger::Manual(_)) {
            let at = self.read().state.ledger.counts_at(attempt.names.set(), now);
            changes.push(Change::AutomaticIssuance(attempt.names.key().clone(), at));
        }
        if let Err(error) = self.commit(Batch { changes, entries: vec![done, intent] }).await {
            return error.into();
        }
        *attempt = next;
        Step::Next
    }
}

fn task_of(authorization: &AuthorizationView, challenge: &ChallengeView) -> ChallengeTask {
    ChallengeTask {
        kind: challenge.kind,
        name: authorization.name.clone(),
        token: challenge.token.clone(),
        key_authorization: challenge.key_authorization.clone(),
    }
}

/// The key store failed, perhaps for a moment only, and the CA may have an order for this key: it is kept for a while.
pub(super) fn keep_trying(attempt: &Attempt, setback: Setback) -> Step {
    if attempt.failures < PATIENCE_WITH_KEYS { Step::Park(setback) } else { Step::Fail(setback) }
}

type Presented = (crate::domain::id::SolverId, ChallengeTask);

/// What one look at an order led to.
enum Turn {
    /// Something was done; look again at once.
    Progress,
    /// Nothing to do; look again after a while.
    Poll(Option<Duration>),
    /// The chain, PEM.
    Certificate(String),
    /// The order cannot succeed.
    Failed(Setback),
}
