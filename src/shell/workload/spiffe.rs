//! `FetchX509SVID` and `FetchX509Bundles`: one question, and an answer whenever it would be another one.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::server::Flow;
use super::view::{End, Eyes, Needs, Seen, View};
use crate::codec::grpc::Code;
use crate::codec::workload_api::{self, Method, Svid};
use crate::domain::key::Digest;

/// A first answer comes within this time: a certificate takes some milliseconds, a CA that is busy a second or two.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// A caller that ended is noticed after this.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// It is not there in time.
pub(super) const LATE: &str = "KW4857";

/// What a method needs.
pub(super) fn needs(method: Method) -> Needs {
    match method {
        Method::Svids => Needs::Certificates,
        Method::Bundles | Method::Tokens => Needs::Trust,
    }
}

/// Answers until something ends it.
pub(super) async fn follow(mut eyes: Eyes, flow: &Flow) -> End {
    let mut moved = eyes.book.follow();
    let (began, mut last) = (eyes.book.clock.boottime(), None);
    let mut look = true;
    loop {
        moved.borrow_and_update();
        if look {
            match eyes.look().await {
                Err(end) => return end,
                Ok(Seen::Waits(what)) => {
                    if last.is_none() && eyes.book.clock.boottime().since(began) >= PATIENCE {
                        return End::new(Code::Unavailable, LATE, what);
                    }
                }
                Ok(Seen::Ready(view)) => {
                    let digest = digest(&view);
                    if last != Some(digest) {
                        let keys: Vec<_> = view.svids.iter().collect();
                        if let Err(end) = eyes.record(&view.caller, &keys).await {
                            return end;
                        }
                        if let Err(end) = flow.send(render(&view)).await {
                            return end;
                        }
                        last = Some(digest);
                    }
                }
            }
        }
        tokio::select! {
            changed = moved.changed() => match changed {
                Ok(()) => look = true,
                Err(_) => return stopping(),
            },
            // The certificate that is waited for may be late, and a process ends without telling anybody.
            () = eyes.book.clock.sleep(LOOK) => look = last.is_none() || !eyes.is_alive(),
            end = flow.ended() => return end,
        }
    }
}

pub(super) fn stopping() -> End {
    End::new(Code::Unavailable, LATE, "the guardian stops; connect again")
}

fn digest(view: &View) -> Digest {
    let own = view.svids.iter().map(|(_, svid)| svid.fingerprint);
    let all: Vec<u8> = own.chain(view.trusts.values().map(|trust| trust.digest)).flat_map(|digest| digest.0).collect();
    Digest::of(&all)
}

fn render(view: &View) -> Zeroizing<Vec<u8>> {
    let lists: Vec<Arc<[u8]>> = view.trusts.values().flat_map(|trust| trust.lists.clone()).collect();
    if view.svids.is_empty() {
        let bundles: BTreeMap<String, Vec<Arc<[u8]>>> =
            view.trusts.iter().map(|(domain, trust)| (format!("spiffe://{domain}"), trust.anchors.clone())).collect();
        return workload_api::bundles(&bundles, &lists);
    }
    let svids: Vec<Svid<'_>> = view
        .svids
        .iter()
        .filter_map(|(entry, svid)| {
            let id = &entry.workload.spiffe;
            let bundle = &view.trusts.get(id.trust_domain())?.anchors;
            Some(Svid { id: id.as_str(), chain: &svid.chain, key: &svid.key, bundle })
        })
        .collect();
    workload_api::svids(&svids, &lists)
}
