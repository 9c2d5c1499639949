//! A port that is held only while it is needed, with a bounded number of short connections on it.

use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Binding, failed};
use crate::domain::execution::Fault;
use crate::ports::{Clock, Doing, SolverError};

/// Connections at once. A CA looks from about five places at a time and at each of a hundred names; further ones wait in
/// the kernel's queue.
const MOST_CONNECTIONS: usize = 256;

/// From accept to close. An honest validator needs two round trips; CAs give up after about ten seconds themselves.
pub(super) const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// The pause after a failed accept (no descriptors left): short for the CA, long for the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves one connection.
pub(super) type Serve = Arc<dyn Fn(TcpStream) -> Doing<'static, ()> + Send + Sync>;

/// Some addresses, bound or not.
pub(super) struct Port {
    bind: Vec<SocketAddr>,
    binding: Binding,
    clock: Arc<dyn Clock>,
    serve: Serve,
    /// The accept loops; dropping them closes the sockets and every connection.
    running: Option<JoinSet<()>>,
}

impl Port {
    pub(super) fn new(bind: Vec<SocketAddr>, binding: Binding, clock: Arc<dyn Clock>, serve: Serve) -> Self {
        Self { bind, binding, clock, serve, running: None }
    }

    /// Checks the addresses and binds them if they are always bound.
    pub(super) fn start(&mut self) -> Result<(), String> {
        if self.bind.is_empty() || self.bind.len() > 16 {
            return Err(format!("{} addresses to listen on; expected 1 to 16", self.bind.len()));
        }
        match self.binding {
            Binding::WhilePresented => Ok(()),
            Binding::Always => self.open().map_err(|e| e.text),
        }
    }

    /// Binds every address, or none. What is bound already stays so.
    pub(super) fn open(&mut self) -> Result<(), SolverError> {
        if self.running.is_some() {
            return Ok(());
        }
        let mut listeners = Vec::with_capacity(self.bind.len());
        for address in &self.bind {
            let listener = self.listen(*address).map_err(|e| {
                let hint = if e.kind() == io::ErrorKind::AddrInUse {
                    "; stop the other server, or use its document root (http-01 webroot)"
                } else if e.kind() == io::ErrorKind::PermissionDenied {
                    "; ports below 1024 need CAP_NET_BIND_SERVICE"
                } else {
                    ""
                };
                failed(Fault::Host, format!("cannot listen on {address}: {e}{hint}"))
            })?;
            listeners.push(listener);
        }
        let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut running = JoinSet::new();
        for listener in listeners {
            running.spawn(accept(listener, self.serve.clone(), slots.clone(), self.clock.clone()));
        }
        self.running = Some(running);
        Ok(())
    }

    /// Frees the port, unless it is always held; it is free on return.
    pub(super) async fn close(&mut self) {
        if self.binding == Binding::WhilePresented
            && let Some(mut running) = self.running.take()
        {
            running.shutdown().await;
        }
    }

    fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // `[::]:80` alone takes IPv4 too, as Linux has it; beside `0.0.0.0:80` it must leave IPv4 alone.
        if address.is_ipv6() && self.bind.iter().any(|b| b.is_ipv4() && b.port() == address.port()) {
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
        }
        socket.bind(address)?;
        socket.listen(1_024)
    }
}

async fn accept(listener: TcpListener, serve: Serve, slots: Arc<Semaphore>, clock: Arc<dyn Clock>) {
    let mut open = JoinSet::new();
    // The slot is taken before the connection, so that what is over the bound waits instead of being refused.
    while let Ok(slot) = slots.clone().acquire_owned().await {
        while open.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let served = tokio::time::timeout(CONNECTION_TIME, serve(stream));
                open.spawn(async move {
                    // Whether it was served or ran out of time, the connection ends here; its peer sees which.
                    drop(served.await);
                    drop(slot);
                });
            }
            Err(_) => clock.sleep(ACCEPT_PAUSE).await,
        }
    }
}
