//! Connections, from their first byte to their last.

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::relay::{Ended, relay};
use super::stream::{Listener, Stream, connect};
use super::tls::{Tls, explain};
use super::{Generation, Live, Shared, State, lock};
use crate::domain::link::{Link, Reason, Refusal};

/// After an error of the listener itself (no descriptor is left) it rests this long.
const REST: Duration = Duration::from_millis(100);

/// Accepts for ever. Dropped, it cuts every connection.
pub(super) async fn serve(shared: &Arc<Shared>, listener: Listener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, who)) => begin(shared, &mut connections, stream, who),
                Err(error) => {
                    tracing::warn!(link = %shared.link.load().id, %error, "cannot accept connections");
                    shared.doors.clock.sleep(REST).await;
                }
            },
        }
    }
}

/// Lets a connection begin if there is room and the path is open; else it is closed at once.
fn begin(shared: &Arc<Shared>, connections: &mut JoinSet<()>, stream: Stream, who: String) {
    let link = shared.link.load_full();
    // Held until the connection stands in the list: whoever cuts comes before its first step or finds it there.
    let mut live = lock(&shared.live);
    let refusal = if live.len() >= link.max_connections {
        Some(Refusal::new(Reason::Full, format!("{} connections are open already", live.len())))
    } else {
        shared.passes(&link).err()
    };
    if let Some(refusal) = refusal {
        drop(live);
        return shared.refuse(&refusal, &who);
    }
    let id = shared.next.fetch_add(1, Ordering::Relaxed);
    let place = Place { shared: shared.clone(), id };
    let task = connections.spawn(connection(place, link, stream, who));
    live.insert(id, Live { task, peer: None });
    shared.series.connections.set(count(live.len()));
}

fn count(connections: usize) -> i64 {
    i64::try_from(connections).unwrap_or(i64::MAX)
}

/// A place in the list; left when dropped, however the connection ends.
struct Place {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut live = lock(&self.shared.live);
        live.remove(&self.id);
        self.shared.series.connections.set(count(live.len()));
    }
}

async fn connection(place: Place, link: Arc<Link>, stream: Stream, who: String) {
    let shared = &place.shared;
    let established = timeout(link.handshake_timeout, establish(&place, &link, stream)).await;
    let established = established.unwrap_or_else(|_| {
        let limit = link.handshake_timeout.as_secs_f32();
        Err(Refusal::new(Reason::Timeout, format!("no handshake within {limit} s")))
    });
    let both = match established {
        Ok(both) => both,
        Err(refusal) => return shared.refuse(&refusal, &who),
    };
    shared.series.accepted.inc();
    let (series, clock) = (&shared.series, &*shared.doors.clock);
    let counters = (&series.received, &series.sent);
    let ended = match both {
        Both::Server(mut near, mut far) => relay(&mut *near, &mut far, link.idle_timeout, clock, counters).await,
        Both::Client(mut near, mut far) => relay(&mut near, &mut *far, link.idle_timeout, clock, counters).await,
    };
    if ended == Ended::Idle {
        tracing::debug!(link = %link.id, who, "idle for too long");
    }
}

/// Both sides of a connection, with TLS on one of them.
enum Both {
    Server(Box<tokio_rustls::server::TlsStream<Stream>>, Stream),
    Client(Stream, Box<tokio_rustls::client::TlsStream<Stream>>),
}

async fn establish(place: &Place, link: &Link, stream: Stream) -> Result<Both, Refusal> {
    let shared = &place.shared;
    let generation = ready(shared).await?;
    generation.in_time(shared.doors.clock.now())?;
    let forward = async || {
        let connected = connect(&link.forward).await;
        connected.map_err(|e| Refusal::new(Reason::Forward, format!("{} cannot be reached: {e}", link.forward)))
    };
    match &generation.tls {
        Tls::Server(config) => {
            let tls = TlsAcceptor::from(config.clone()).accept(stream).await.map_err(|e| explain(&e))?;
            admit(place, link, tls.get_ref().1.peer_certificates())?;
            // Only for those who may: nobody else can keep the service behind busy.
            Ok(Both::Server(Box::new(tls), forward().await?))
        }
        Tls::Client(config) => {
            let name = link.server_name.clone().unwrap_or_default();
            let name = ServerName::try_from(name)
                .map_err(|_| Refusal::new(Reason::Unready, "`server_name` cannot be sent".to_owned()))?;
            let far = forward().await?;
            let tls = TlsConnector::from(config.clone()).connect(name, far).await.map_err(|e| explain(&e))?;
            admit(place, link, tls.get_ref().1.peer_certificates())?;
            Ok(Both::Client(stream, Box::new(tls)))
        }
    }
}

/// Trust and path may have changed during the handshake.
fn admit(place: &Place, link: &Link, ders: Option<&[CertificateDer<'static>]>) -> Result<(), Refusal> {
    place.shared.enlist(place.id, ders.unwrap_or_default().into())?;
    place.shared.passes(link)
}

/// What handshakes are made with; waits while that is being swapped.
async fn ready(shared: &Shared) -> Result<Arc<Generation>, Refusal> {
    let mut state = shared.state.subscribe();
    let settled = state.wait_for(|state| !matches!(state, State::Swapping(_))).await;
    match settled.as_deref() {
        Ok(State::Ready(generation)) => Ok(generation.clone()),
        Ok(State::Unready(why)) => Err(Refusal::new(Reason::Unready, why.clone())),
        Ok(State::Swapping(_)) | Err(_) => Err(Refusal::new(Reason::Unready, "the link is ending")),
    }
}
