//! A way to a server that loses answers, and leads to another one, when it is told to.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// An address behind which a server stands, and later perhaps another one.
pub(crate) struct Way {
    pub(crate) url: String,
    /// While it is set, what is asked is handed on, and the connection is cut instead of the answer.
    pub(crate) deaf: Arc<AtomicBool>,
    port: watch::Sender<u16>,
    _tasks: JoinSet<()>,
}

impl Way {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let (deaf, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        let (port, mut there) = watch::channel(port);
        let told = Arc::clone(&deaf);
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let port = *there.borrow_and_update();
                // While the server is away, so is the way to it.
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                open.spawn(hand_on(client, server, Arc::clone(&told), there.clone()));
                while open.try_join_next().is_some() {}
            }
        });
        Self { url, deaf, port, _tasks: tasks }
    }

    /// It leads to another server from now on; connections to the one before are cut.
    pub(crate) fn lead_to(&self, port: u16) {
        self.port.send_replace(port);
    }
}

async fn hand_on(
    client: TcpStream,
    server: TcpStream,
    deaf: Arc<AtomicBool>,
    mut there: watch::Receiver<u16>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asked = async { tokio::io::copy(&mut from_client, &mut to_server).await.map(drop) };
    let answered = async {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let count = from_server.read(&mut bytes).await?;
            if count == 0 || deaf.load(Relaxed) {
                return Ok(());
            }
            to_client.write_all(&bytes[..count]).await?;
        }
    };
    let _: Result<(), std::io::Error> = tokio::select! {
        done = asked => done,
        done = answered => done,
        _led_elsewhere = there.changed() => Ok(()),
    };
}
