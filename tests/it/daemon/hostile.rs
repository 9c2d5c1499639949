//! A CA that lies, stalls and loses answers: each leads to a bounded wait, an entry in the audit trail, a notice for a
//! person and an untouched installation; and once it is honest again, a person's request goes through.

use std::time::{Duration, Instant};

use keyward::domain::execution::Generation;
use keyward::domain::time::{DAY, HOUR, MINUTE};
use keyward::shell::acme_server::{Ari, CaConfig, Endpoint, Fault, Length, OrderList, Reuse, Scope, Validator};

use crate::harness::life::{Life, Place, certificate, snapshot};

/// A guardian with one certificate in place, about to meet a fault.
struct Scene {
    place: Place,
    life: Life,
    first: Generation,
}

/// How many orders a renewal may take when it is over.
#[derive(Clone, Copy, PartialEq)]
enum Orders {
    /// The fault only lost answers.
    One,
    /// The CA spoiled the order itself.
    Two,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_, _| {}, "").await
    }

    async fn with(edit: impl FnOnce(&mut CaConfig, &mut Validator), issuer: &str) -> Self {
        let place = Place::with(edit).await;
        let toml = place.toml_with("", issuer, &certificate("portal", &["portal.example.test"], ""));
        let life = place.start(&toml).await;
        let first = life.installed("portal").await;
        // The first question for a window is answered, so that none is under way while a test moves the clock.
        life.entry("portal", "KW2010").await;
        place.advance(Duration::from_secs(2));
        Self { place, life, first }
    }

    /// A renewal meets what was injected: it fails with `code`, waits no longer than a day, tells somebody and leaves
    /// the installation alone.
    async fn fails_with(&self, code: &str) {
        let before = snapshot(self.place.dir.path().join("live").as_path());
        let around = outside(&self.place);
        self.life.renew("portal");
        let entry = self.life.entry("portal", code).await;
        let text = entry["data"]["facts"]["text"].as_str().unwrap_or_default().to_owned();
        assert!(text.len() > 20, "a sentence for people: {entry}");
        let life = &self.life;
        life.wait(&format!("somebody is told of {code}"), |l| l.told(code).then_some(())).await;
        life.wait("the attempt rests", |l| l.engine.overview().in_flight.eq(&0).then_some(()).or_else(|| rests(l)))
            .await;
        let view = life.view("portal");
        let next = view.record.next_attempt.expect("a time for the next try");
        let wait = life.now().until(next);
        assert!(wait <= DAY && wait > Duration::from_secs(40), "the next try is in {wait:?}");
        if let Some(attempt) = &view.attempt {
            assert!(attempt.not_before.is_some_and(|t| life.now().until(t) <= DAY), "{attempt:?}");
        }
        for (id, issuer) in life.engine.overview().issuers {
            let open = issuer.open_until.map(|t| life.now().until(t));
            assert!(open.is_none_or(|w| w <= DAY), "{id} rests for {open:?}");
        }
        assert_eq!(view.record.last_failure.as_ref().map(|f| &*f.code), Some(code));
        assert_eq!(view.current().map(|g| g.fingerprint), Some(self.first.fingerprint));
        assert_eq!(snapshot(self.place.at("live").as_path()), before, "the installation is untouched");
        assert_eq!(outside(&self.place), around, "nothing is written elsewhere");
    }

    /// The CA is honest again, and somebody asks.
    async fn recovers(self, orders: Orders) {
        self.place.control.heal();
        self.life.renew("portal");
        let second = self.life.renewed("portal", &self.first).await;
        assert_eq!(self.place.control.certificates().last().unwrap().serial, &*second.serial);
        let made = self.place.control.orders().len() - 1;
        let most = if orders == Orders::One { 1 } else { 2 };
        assert!(made <= most, "{made} orders for one renewal, at most {most}");
        let live: Vec<String> = self.life.findings("portal").into_iter().map(str::to_owned).collect();
        assert_eq!(live, Vec::<String>::new(), "nothing is wrong any more");
        self.life.stop().await;
    }
}

fn rests(life: &Life) -> Option<()> {
    life.view("portal").attempt.filter(|a| a.not_before.is_some()).map(|_| ())
}

/// The names of what is in the directory, but for the state and what is installed.
fn outside(place: &Place) -> Vec<String> {
    let all = snapshot(place.dir.path());
    let own = [place.at("state"), place.at("live")];
    all.keys().filter(|p| !own.iter().any(|o| p.starts_with(o))).map(|p| p.display().to_string()).collect()
}

fn unavailable(retry_after: &str) -> Fault {
    Fault::Status { code: 503, problem: "serverInternal".into(), retry_after: Some(retry_after.into()) }
}

/// The fault strikes every request of these kinds until the CA is healed.
async fn always(at: &[Endpoint], fault: Fault, code: &str, orders: Orders) {
    let scene = Scene::new().await;
    scene.place.control.inject(at, Scope::Always, fault);
    scene.fails_with(code).await;
    scene.recovers(orders).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_refusals_of_nonces_end() {
    let began = Instant::now();
    always(&[], Fault::BadNonce, "KW3001", Orders::One).await;
    assert!(began.elapsed() < MINUTE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_of_thirty_years_is_a_day_at_most() {
    always(&[Endpoint::NewOrder], unavailable("1000000000"), "KW3001", Orders::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_beyond_all_numbers_is_no_wish_at_all() {
    always(&[Endpoint::NewOrder], unavailable("99999999999999999999999999"), "KW3001", Orders::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_as_a_date_far_away_is_a_day_at_most() {
    always(&[Endpoint::Finalize], unavailable("Fri, 31 Dec 9999 23:59:59 GMT"), "KW3001", Orders::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_with_a_retry_after_of_thirty_years_goes_on() {
    let scene = Scene::with(|c, _| c.issue_delay = Duration::from_millis(50), "").await;
    scene.place.control.inject(&[Endpoint::Order], Scope::Always, Fault::RetryAfter("1000000000".into()));
    // The wish of a poll counts up to a minute: nothing fails, and the clock of the sleep is real.
    scene.life.renew("portal");
    scene.life.wait("the order is polled", |_| (scene.place.control.orders().len() == 2).then_some(())).await;
    let view = scene.life.view("portal");
    assert_eq!(view.record.failures, 0);
    scene.life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announced_gigabyte_is_not_read() {
    let fault = Fault::HugeBody { bytes: 1 << 30, length: Length::Announced };
    always(&[Endpoint::Order], fault, "KW3008", Orders::Two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_gigabyte_is_cut_off() {
    let began = Instant::now();
    let fault = Fault::HugeBody { bytes: 1 << 30, length: Length::Streamed };
    always(&[Endpoint::Cert], fault, "KW3008", Orders::Two).await;
    let peak = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = peak.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 400_000, "{peak} kB at the peak");
    assert!(began.elapsed() < MINUTE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_drip_are_given_up() {
    let scene = Scene::with(|_, _| {}, "timeout = \"1s\"").await;
    scene.place.control.inject(&[Endpoint::Order], Scope::Always, Fault::SlowBody(Duration::from_millis(200)));
    scene.fails_with("KW3001").await;
    scene.recovers(Orders::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_never_come_are_given_up() {
    let scene = Scene::with(|_, _| {}, "timeout = \"1s\"").await;
    scene.place.control.inject(&[], Scope::Always, Fault::Delay(HOUR));
    scene.fails_with("KW3001").await;
    scene.recovers(Orders::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_paths_write_nothing() {
    always(&[Endpoint::NewOrder], Fault::EvilToken("../x".into()), "KW3008", Orders::Two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_commands_run_nothing() {
    always(&[Endpoint::NewOrder], Fault::EvilToken("$(touch /tmp/keyward-pwned)".into()), "KW3008", Orders::Two).await;
    assert!(!std::path::Path::new("/tmp/keyward-pwned").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_key_is_refused() {
    always(&[Endpoint::Finalize], Fault::WrongKey, "KW3010", Orders::Two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_with_other_names_is_refused() {
    always(&[Endpoint::Finalize], Fault::WrongNames, "KW3010", Orders::Two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_a_foreign_ca_is_refused() {
    always(&[Endpoint::Finalize], Fault::ForeignChain, "KW3010", Orders::Two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_is_refused() {
    always(&[Endpoint::Finalize], Fault::ExpiredCert, "KW3010", Orders::Two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_ends_in_the_middle_is_refused() {
    always(&[Endpoint::Order], Fault::MalformedJson, "KW3008", Orders::Two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_dies_is_a_failure() {
    always(&[Endpoint::Finalize], Fault::OrderInvalid, "KW3005", Orders::Two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reached_limit_is_noted_and_left_alone() {
    always(&[Endpoint::NewOrder], Fault::LimitReached(HOUR * 3), "KW3002", Orders::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_for_thirty_years_is_left_alone_for_a_day() {
    always(&[Endpoint::NewOrder], Fault::LimitReached(Duration::from_secs(1_000_000_000)), "KW3002", Orders::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_stuck_in_processing_waits_and_is_picked_up() {
    let scene = Scene::new().await;
    scene.place.control.inject(&[Endpoint::Finalize], Scope::Next(1), Fault::StuckProcessing);
    scene.life.renew("portal");
    scene
        .life
        .wait("the order is there", |_| (scene.place.control.requests(Endpoint::Finalize) == 2).then_some(()))
        .await;
    let before = snapshot(&scene.place.at("live"));
    // An order has five minutes.
    scene.place.advance(MINUTE * 5 + Duration::from_secs(1));
    let entry = scene.life.entry("portal", "KW3009").await;
    assert_eq!(entry["data"]["facts"]["stage"], "ordered");
    scene.life.wait("somebody is told", |l| l.told("KW3009").then_some(())).await;
    assert_eq!(snapshot(&scene.place.at("live")), before);
    assert_eq!(scene.place.control.release_stuck(), 1);
    scene.recovers(Orders::One).await;
}

/// Answers are lost: the same order is found again, and nobody has to act.
async fn loses(at: Endpoint, scope: Scope, edit: impl FnOnce(&mut CaConfig, &mut Validator)) {
    let scene = Scene::with(edit, "").await;
    let fault = scene.place.control.inject(&[at], scope, Fault::DropResponse);
    scene.life.renew("portal");
    let second = scene.life.renewed("portal", &scene.first).await;
    let struck = scene.place.control.struck(fault);
    assert!(if let Scope::Next(times) = scope { struck == u64::from(times) } else { struck > 0 }, "{struck}");
    assert_eq!(scene.place.control.orders().len(), 2, "one order for each certificate");
    assert_eq!(scene.place.control.certificates().len(), 2, "one certificate for each");
    assert_eq!(scene.place.control.certificates()[1].serial, &*second.serial);
    assert_eq!(scene.life.complaints().await, Vec::<String>::new());
    scene.life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_new_order_makes_no_second_order() {
    loses(Endpoint::NewOrder, Scope::Next(1), |_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_new_order_makes_no_second_order_where_there_is_no_list() {
    loses(Endpoint::NewOrder, Scope::Next(2), |c, _| {
        c.order_list = OrderList::Absent;
        c.reuse_orders = Reuse::SameAccount;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_finalize_makes_no_second_order() {
    loses(Endpoint::Finalize, Scope::Next(1), |_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_certificate_is_fetched_again() {
    loses(Endpoint::Cert, Scope::Next(2), |_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_new_order_and_finalize_that_are_always_lost_do_no_harm() {
    loses(Endpoint::NewOrder, Scope::Always, |_, _| {}).await;
    loses(Endpoint::Finalize, Scope::Always, |_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_lost_for_hours_is_the_same_in_the_end() {
    always(&[Endpoint::Cert], Fault::DropResponse, "KW3001", Orders::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_a_wait_and_no_order_is_lost() {
    let scene = Scene::new().await;
    scene.place.control.pause();
    scene.fails_with("KW3001").await;
    scene.recovers(Orders::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_replaces_is_tried_once_without_it() {
    let scene = Scene::new().await;
    let control = &scene.place.control;
    control.inject(&[Endpoint::NewOrder], Scope::Always, Fault::ReplacesRefused("malformed".into()));
    assert!(control.set_ari_of(scene.first.cert_id.as_ref().unwrap(), Ari::RenewNow { explanation: None }));
    let (before, began) = (control.requests(Endpoint::NewOrder), Instant::now());
    scene.place.advance(HOUR * 6 + Duration::from_secs(1));
    scene.life.scan();
    scene.life.renewed("portal", &scene.first).await;
    assert_eq!(control.requests(Endpoint::NewOrder) - before, 2, "with it, then without it");
    assert_eq!(control.orders()[1].replaces, None);
    assert_eq!(scene.life.count("KW3003").await, 1, "the refusal is in the audit trail");
    assert!(began.elapsed() < MINUTE);
    scene.life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaces_without_an_echo_is_as_good() {
    let scene = Scene::new().await;
    let control = &scene.place.control;
    control.inject(&[Endpoint::NewOrder], Scope::Always, Fault::NoReplacesEcho);
    assert!(control.set_ari_of(scene.first.cert_id.as_ref().unwrap(), Ari::RenewNow { explanation: None }));
    scene.place.advance(HOUR * 6 + Duration::from_secs(1));
    scene.life.scan();
    scene.life.renewed("portal", &scene.first).await;
    assert_eq!(control.orders().len(), 2);
    assert_eq!(scene.life.complaints().await, Vec::<String>::new());
    scene.life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_that_ends_before_it_starts_is_reported_and_not_followed() {
    let scene = Scene::new().await;
    let now = scene.life.now();
    let window = Ari::Window { start: now, end: now.minus(HOUR), explanation: None };
    assert!(scene.place.control.set_ari_of(scene.first.cert_id.as_ref().unwrap(), window));
    scene.place.advance(HOUR * 6 + Duration::from_secs(1));
    scene.life.scan();
    scene.life.wait("somebody is told", |l| l.told("KW1102").then_some(())).await;
    assert_eq!(scene.place.control.orders().len(), 1);
    scene.life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_window_with_a_reason_reaches_a_person() {
    let scene = Scene::new().await;
    let page = "https://ca.example/incident".to_owned();
    let now = Ari::RenewNow { explanation: Some(page.clone()) };
    assert!(scene.place.control.set_ari_of(scene.first.cert_id.as_ref().unwrap(), now));
    scene.place.advance(HOUR * 6 + Duration::from_secs(1));
    scene.life.scan();
    scene.life.renewed("portal", &scene.first).await;
    assert!(scene.life.notices().iter().any(|n| n.code == "KW2010" && n.text.contains(&page)));
    scene.life.stop().await;
}
