//! `cargo bench -- check [KEY=VALUE…]`: the check beside the least that hyper can do, in turn, in one run.
//!
//! Everything shares the machine: the client (one thread), the server that is asked, and, in the storm, the daemon that
//! renews and the scripted CA that issues. Only one server is asked at a time; the other ones wait. So a figure alone says
//! little on a small machine; the ratios of one round, of which the median is shown, are what counts.
//!
//! keys: dir (kept: seeding 10,000 certificates takes a minute), count (tracked; 10,000), seconds (of each measurement; 1)

mod client;
mod proxies;
mod servers;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::report::figure;
use crate::site::Site;
use client::{Door, Run, ask};
use servers::{Guardian, Minimal};

pub use servers::minimal;

/// Of every measurement; the median is shown.
const ROUNDS: usize = 5;
const TARGET: &str = "/v1/gate/approve";
const CONNECTIONS: [usize; 2] = [1, 16];
const DOORS: [&str; 2] = ["TCP", "Unix"];
/// With tokio's usual two workers, and with one thread.
const MINIMAL: [&str; 2] = ["minimal, two workers", "minimal, one thread"];

/// Figures of several rounds by what they are of.
#[derive(Default)]
struct Figures(BTreeMap<(String, &'static str), Vec<f64>>);

impl Figures {
    fn note(&mut self, row: &str, what: &'static str, unit: &str, value: f64) {
        figure(&format!("check, {row}: {what}"), unit, value);
        self.0.entry((row.to_owned(), what)).or_default().push(value);
    }

    fn run(&mut self, row: &str, run: &Run) {
        self.note(row, "answers", "/s", run.rate);
        for (what, per_mille) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
            self.note(row, what, "µs", run.within(per_mille));
        }
    }

    fn median(&self, row: &str, what: &'static str) -> f64 {
        let mut all = self.0.get(&(row.to_owned(), what)).cloned().unwrap_or_default();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

pub fn check(arguments: &[&str]) {
    let site = &Site::from(&[&["dir=/tmp/keyward-check", "count=10000", "seconds=1"], arguments].concat());
    let span = Duration::from_secs(site.seconds);
    let guardian = Guardian::start(site);
    let minimal = [Minimal::start(&site.dir, "two"), Minimal::start(&site.dir, "one")];
    let proxies = proxies::start(&site.dir, &minimal[0], &guardian);
    let mut figures = Figures::default();
    for _ in 0..ROUNDS {
        round(&mut figures, "calm", &minimal, &guardian, span);
        for (proxy, (name, door, target)) in proxies.iter().flat_map(|p| p.ways.iter().map(move |way| (p, way))) {
            figures.run(&format!("{} asks {name}", proxy.name), &ask(door, target, 1, span));
        }
    }
    let storm = guardian.storm();
    // Until it blows.
    std::thread::sleep(Duration::from_secs(2));
    for _ in 0..ROUNDS {
        let (before, began) = (guardian.renewed(), Instant::now());
        round(&mut figures, "storm", &minimal, &guardian, span);
        let renewed = guardian.renewed() - before;
        assert!(renewed > 0.0, "the storm is over: {} were asked for", storm.wanted());
        figures.note("storm", "renewals", "/s", renewed / began.elapsed().as_secs_f64());
    }
    drop(storm);
    table(&figures, &proxies);
}

/// One measurement of whoever listens at a Unix socket, for a look with a profiler.
pub fn one(socket: &str, connections: &str, seconds: &str) {
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let (door, span) = (Door::Unix(socket.into()), Duration::from_secs(number(seconds) as u64));
    let run = ask(&door, TARGET, number(connections), span);
    figure("answers", "/s", run.rate);
    figure("questions", "", run.asked as f64);
}

/// One turn of all servers at each door.
fn round(figures: &mut Figures, weather: &str, minimal: &[Minimal; 2], guardian: &Guardian, span: Duration) {
    for (door, connections) in DOORS.iter().flat_map(|door| CONNECTIONS.map(|n| (*door, n))) {
        let cell = cell(weather, door, connections);
        let own = |tcp, unix| if door == "TCP" { tcp } else { unix };
        let (mut best, mut best_median) = (f64::INFINITY, f64::INFINITY);
        for (name, minimal) in MINIMAL.iter().zip(minimal) {
            let used = minimal.process.processor_time(None);
            let run = ask(own(&minimal.tcp, &minimal.unix), "/", connections, span);
            let used = minimal.process.processor_time(None) - used;
            let row = format!("{cell}, {name}");
            figures.run(&row, &run);
            figures.note(&row, "processor time of an answer", "µs", used as f64 / run.asked as f64 / 1e3);
            best = best.min(1.0 / run.rate);
            best_median = best_median.min(run.within(500));
        }
        // In the storm the others of its threads renew.
        let thread = (weather == "storm").then_some(servers::GATE_THREAD);
        let used = guardian.process.processor_time(thread);
        let run = ask(own(&guardian.tcp, &guardian.unix), TARGET, connections, span);
        let used = guardian.process.processor_time(thread) - used;
        let row = format!("{cell}, keyward");
        figures.run(&row, &run);
        figures.note(&row, "processor time of an answer", "µs", used as f64 / run.asked as f64 / 1e3);
        figures.note(&row, "time over the better minimal handler's", "×", 1.0 / run.rate / best);
        figures.note(&row, "median over the better minimal handler's", "×", run.within(500) / best_median);
    }
}

fn cell(weather: &str, door: &str, connections: usize) -> String {
    format!("{weather}, {door}, {connections} connections")
}

/// What stands in docs/benchmarks.md.
fn table(figures: &Figures, proxies: &[proxies::Proxy]) {
    println!("| the check | answers/s | p50 | p99 | p99.9 | processor time | time over minimal | its median |");
    println!("|---|---|---|---|---|---|---|---|");
    for weather in ["calm", "storm"] {
        for (door, connections) in DOORS.iter().flat_map(|door| CONNECTIONS.map(|n| (*door, n))) {
            for who in MINIMAL.iter().chain(&["keyward"]) {
                let row = format!("{}, {who}", cell(weather, door, connections));
                let of = |what| figures.median(&row, what);
                let over = of("time over the better minimal handler's");
                let shown = |over: f64| if over.is_nan() { String::new() } else { format!("{over:.2} ×") };
                let (over, median) = (shown(over), shown(of("median over the better minimal handler's")));
                println!(
                    "| {row} | {:.0} | {:.1} µs | {:.1} µs | {:.0} µs | {:.1} µs | {over} | {median} |",
                    of("answers"),
                    of("p50"),
                    of("p99"),
                    of("p99.9"),
                    of("processor time of an answer"),
                );
            }
        }
    }
    println!("\n{:.0} renewals a second in the storm.\n", figures.median("storm", "renewals"));
    println!("| one connection through a proxy | answers/s | p50 | p99 | p50 over nobody's |");
    println!("|---|---|---|---|---|");
    for proxy in proxies {
        let row = |name: &str| format!("{} asks {name}", proxy.name);
        let nobody = figures.median(&row("nobody"), "p50");
        for (name, ..) in &proxy.ways {
            let of = |what| figures.median(&row(name), what);
            let (rate, p50, p99) = (of("answers"), of("p50"), of("p99"));
            println!("| {} | {rate:.0} | {p50:.1} µs | {p99:.1} µs | {:.1} µs |", row(name), p50 - nobody);
        }
    }
}
