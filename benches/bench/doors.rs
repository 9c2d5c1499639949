//! Single doors: the store's commits and the prober's looks.

use std::time::Instant;

use futures_util::stream::{StreamExt, iter};
use keyward::adapters::probe::SystemProber;
use keyward::adapters::store::{LogOptions, SqliteStore};
use keyward::codec::verify::Roots;
use keyward::domain::audit::{Draft, Target, TargetKind};
use keyward::domain::id::{EntryId, Ulid};
use keyward::domain::inventory::{Endpoint, Seen, StartTls};
use keyward::domain::state::{Change, IssuerRecord};
use keyward::ports::{Batch, Prober, Store};
use keyward::shell::wire;

use crate::estate;
use crate::report::figure;
use crate::site::{Site, name};

const COMMITS: usize = 2_000;

/// Commits of one change and one entry a second, one after the other and 64 at once.
pub async fn commits(site: &Site) {
    std::fs::create_dir_all(&site.dir).expect("a directory");
    let (clock, entropy) = (wire::clock(), wire::entropy());
    let options = LogOptions::new(clock.now(), entropy.clone());
    let store = SqliteStore::open(&site.dir.join("state"), &options).expect("a store");
    let batch = || {
        let mut random = [0; 10];
        entropy.fill(&mut random);
        let (at, target) = (clock.now(), Target::new(TargetKind::Issuer, "ca"));
        let entry = Draft::new(EntryId(Ulid::new(at, random)), at, "bench.commit", "KW0000", target);
        let change = Change::Issuer(estate::issuer_id(), IssuerRecord::default());
        Batch { changes: vec![change], entries: vec![entry] }
    };
    for at_once in [1, 64] {
        let began = Instant::now();
        let all = iter(0..COMMITS).map(|_| store.commit(batch())).buffer_unordered(at_once);
        all.for_each(|done| async { done.expect("a commit") }).await;
        figure(&format!("commits, {at_once} at once"), "/s", COMMITS as f64 / began.elapsed().as_secs_f64());
    }
}

/// Looks at `count` endpoints of the server of [`crate::servers::serve`], all at once, five times.
pub async fn probe(site: &Site) {
    let prober = SystemProber::new(Roots::default().into(), None).expect("a prober");
    let endpoint = |i: usize| Endpoint {
        host: "127.0.0.1".to_owned(),
        port: site.served,
        sni: Some(format!("{}.example.com", name(i))),
        starttls: StartTls::None,
    };
    let endpoints: Vec<Endpoint> = (0..site.count).map(endpoint).collect();
    for _ in 0..5 {
        let began = Instant::now();
        let seen: Vec<Seen> =
            iter(&endpoints).map(|e| prober.served(e)).buffer_unordered(site.count.max(1)).collect().await;
        figure(&format!("{} endpoints", site.count), "ms", began.elapsed().as_secs_f64() * 1_000.0);
        assert!(seen.iter().all(|s| matches!(s, Seen::Present(_))), "{:?}", seen.first());
    }
}
