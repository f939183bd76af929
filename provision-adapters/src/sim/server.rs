//! The listener: one thread with its own small runtime, so that a server outlives the test
//! runtime's paused clocks and can be used from anywhere.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
};

use provision_core::clock::{self, Clock, SystemClock};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::{
    Provider,
    fault::{Fault, FaultPlan},
    inventory::InventoryItem,
    message::{SimRequest, SimResponse},
    state::{Cloud, Exchange, RequestLine},
    wire::{Trouble, Wire},
};

/// How a simulated cloud is run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SimOptions {
    /// File that holds the state; committed before each answer, read back at start. Default none:
    /// the cloud is forgotten with its process.
    pub persist: Option<PathBuf>,
    /// Readiness delays are multiplied by this. Default 1.0; tests use 0.0 or little more.
    pub speed: f64,
    /// Decides everything random: the fault plan's chances, and what providers draw. Default 0.
    pub seed: u64,
    /// Whether whole exchanges are kept, with headers and bodies. Default false.
    pub record_exchanges: bool,
    /// Port on 127.0.0.1. Default 0: a free one.
    pub port: u16,
    /// Most lines and exchanges kept. Default 100,000.
    pub log_lines_max: usize,
    /// Most connections at a time; further ones are closed. Default 1,024.
    pub connections_max: usize,
    /// What time it is in the cloud. Default: the machine's wall clock.
    pub clock: Arc<dyn Clock>,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            persist: None,
            speed: 1.0,
            seed: 0,
            record_exchanges: false,
            port: 0,
            log_lines_max: 100_000,
            connections_max: 1_024,
            clock: Arc::new(SystemClock),
        }
    }
}

impl SimOptions {
    /// Keeps the state in a file.
    #[must_use]
    pub fn with_persist(mut self, path: impl Into<PathBuf>) -> Self {
        self.persist = Some(path.into());
        self
    }

    /// Multiplies readiness delays.
    #[must_use]
    pub fn with_speed(mut self, speed: f64) -> Self {
        self.speed = speed;
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Keeps whole exchanges, for checks against the provider's specification.
    #[must_use]
    pub fn with_recorded_exchanges(mut self) -> Self {
        self.record_exchanges = true;
        self
    }

    /// Lets the cloud's time be a test's: an hour of readiness then takes as long as the test wants.
    /// Slow answers still take real time, since they are the network's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Listens on this port.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }
}

struct Shared<P> {
    // A plain mutex: one request at a time is the point, and it is never held across an `.await`.
    cloud: Mutex<Cloud<P>>,
    faults: FaultPlan,
    options: SimOptions,
}

impl<P: Provider> Shared<P> {
    fn cloud(&self) -> MutexGuard<'_, Cloud<P>> {
        self.cloud.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running simulated cloud. Stops when dropped.
pub struct SimServer<P: Provider> {
    shared: Arc<Shared<P>>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl<P: Provider> std::fmt::Debug for SimServer<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl<P: Provider> SimServer<P> {
    /// Starts a cloud on loopback; it answers when this returns.
    ///
    /// # Errors
    /// The port is taken, the thread cannot be started, or the persisted state is not one of this
    /// provider.
    pub fn start(provider: P, options: SimOptions) -> io::Result<Self> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let cloud = Mutex::new(Cloud::open(provider, &options)?);
        let faults = FaultPlan::new(options.seed);
        let shared = Arc::new(Shared { cloud, faults, options });
        let (stop, stopped) = watch::channel(false);
        let (ready, up) = mpsc::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("sim".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(accept(listener, serving, stopped, ready)),
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        let server = Self { shared, address, stop, thread: Some(thread) };
        up.recv().map_err(io::Error::other)??;
        Ok(server)
    }

    /// Base URL, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Reads or changes the provider's state; what has become due has landed before.
    pub fn with<R>(&self, look: impl FnOnce(&mut P) -> R) -> R {
        let mut cloud = self.shared.cloud();
        cloud.settle();
        let out = look(&mut cloud.provider);
        // A disk that fails shows at the next request, which is then not answered.
        let _ = cloud.save();
        out
    }

    /// What was asked so far.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestLine> {
        self.shared.cloud().log.clone()
    }

    /// Whole exchanges, if they are recorded.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.cloud().exchanges.clone()
    }

    /// What runs have created and is there now, sorted.
    #[must_use]
    pub fn inventory(&self) -> Vec<InventoryItem> {
        let mut items = self.with(|provider| provider.inventory());
        items.sort();
        items
    }

    /// What goes wrong on the way.
    #[must_use]
    pub fn faults(&self) -> &FaultPlan {
        &self.shared.faults
    }

    /// Stops it; open connections are closed.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<P: Provider> Drop for SimServer<P> {
    fn drop(&mut self) {
        self.end();
    }
}

async fn accept<P: Provider>(
    listener: StdListener,
    shared: Arc<Shared<P>>,
    mut stopped: watch::Receiver<bool>,
    ready: mpsc::Sender<io::Result<()>>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let _ = ready.send(Ok(()));
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            accepted = listener.accept() => {
                while open.try_join_next().is_some() {}
                if let Ok((stream, _)) = accepted
                    && open.len() < shared.options.connections_max
                {
                    open.spawn(serve(stream, Arc::clone(&shared)));
                }
            }
        }
    }
    open.shutdown().await;
}

/// Serves one connection until it ends.
async fn serve<P: Provider>(stream: TcpStream, shared: Arc<Shared<P>>) {
    // Answers are written in one go; waiting for more would only slow down tests.
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(stream);
    loop {
        match wire.read().await {
            Ok((request, keep)) => {
                let fault = shared.faults.take(&request);
                let open = exchange(&mut wire, &shared, request, fault).await.unwrap_or(false);
                if !(open && keep) {
                    return;
                }
            }
            Err(Trouble::Malformed(what)) => {
                let body = serde_json::json!({ "message": format!("malformed request: {what}") });
                let _ = wire.write(&SimResponse::json(400, &body), false).await;
                return;
            }
            Err(Trouble::Closed | Trouble::Io) => return,
        }
    }
}

/// Handles one request and sends what the fault leaves of the answer; says whether to go on.
async fn exchange<P: Provider>(
    wire: &mut Wire,
    shared: &Shared<P>,
    request: SimRequest,
    fault: Option<Fault>,
) -> io::Result<bool> {
    let head_only = request.method == "HEAD";
    if let Some(Fault::Slow(by)) = fault {
        clock::sleep(by).await;
    }
    let answer = shared.cloud().answer(request, fault.as_ref())?;
    let Some(mut answer) = answer else {
        unanswered(wire, fault.as_ref()).await?;
        return Ok(false);
    };
    let date = httpdate::fmt_http_date(shared.options.clock.wall().to_system());
    answer.headers.push(("date".to_owned(), date));
    if let Some(fault) = &fault
        && is_broken(wire, &answer, fault).await?
    {
        return Ok(false);
    }
    match fault {
        Some(Fault::StatusAfter(status)) => answer = shared.cloud().provider.refuse(status),
        Some(Fault::Garbage200) => {
            answer = SimResponse::text(200, "application/json", &b"\x00{]not json"[..]);
        }
        Some(Fault::Html200) => {
            answer = SimResponse::text(200, "text/html", "<html><body>Welcome</body></html>");
        }
        Some(Fault::SlowHeaders(by)) => clock::sleep(by).await,
        _ => {}
    }
    wire.write(&answer, head_only).await?;
    Ok(true)
}

/// What happens to a connection over which no answer comes; it is closed afterwards.
async fn unanswered(wire: &mut Wire, fault: Option<&Fault>) -> io::Result<()> {
    match fault {
        Some(Fault::ResetBefore) => wire.reset(),
        Some(Fault::HalfOpen) => wire.wait_for_the_end().await,
        Some(Fault::TlsAlert) => wire.write_alert().await,
        _ => Ok(()),
    }
}

/// Sends what a fault leaves of an answer, if it leaves no whole one; whether that was so.
async fn is_broken(wire: &mut Wire, answer: &SimResponse, fault: &Fault) -> io::Result<bool> {
    match fault {
        Fault::DropAfter | Fault::LostAndLateVisible(_) => {}
        Fault::ResetAfter => wire.reset()?,
        Fault::CutBody => wire.write_cut(answer).await?,
        Fault::LyingLength => wire.write_lying(answer).await?,
        Fault::ShortLength => wire.write_short(answer).await?,
        Fault::GzipBomb { bytes } => wire.write_bomb(answer, *bytes).await?,
        Fault::Trickle(every) => wire.write_trickle(answer, *every).await?,
        Fault::EndlessBody { bytes } => wire.write_endless(answer, *bytes).await?,
        _ => return Ok(false),
    }
    Ok(true)
}
