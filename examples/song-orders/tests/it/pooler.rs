//! A way to the server that leaves out how connections begin, as transaction poolers do.

use song_orders::{commands::keys, shop::Shop};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::world::{Clouds, database, places};

/// What a client opens a connection with: its length, its version, and names with their values.
fn without_options(opening: &[u8]) -> Vec<u8> {
    let (version, rest) = opening.split_at(4);
    let mut kept = version.to_vec();
    let texts: Vec<&[u8]> = rest.split(|byte| *byte == 0).collect();
    for pair in texts.chunks_exact(2).filter(|pair| !pair[0].is_empty()) {
        if pair[0] != b"options" {
            kept.extend([pair[0], b"\0", pair[1], b"\0"].concat());
        }
    }
    kept.push(0);
    let length = u32::try_from(kept.len() + 4).unwrap();
    [&length.to_be_bytes()[..], &kept].concat()
}

async fn pass(mut client: TcpStream, server: String) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let length = client.read_u32().await?;
    let mut opening = vec![0; usize::try_from(length).unwrap() - 4];
    client.read_exact(&mut opening).await?;
    server.write_all(&without_options(&opening)).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

// covers: R3-25, X12
#[tokio::test]
async fn connections_without_their_role_are_refused_when_the_shop_opens() {
    let Some(url) = database().await else { return };
    let (clouds, folder) = (Clouds::start(), tempfile::tempdir().unwrap());
    Shop::open(&places(&url, &clouds, &folder), keys()).await.unwrap();
    let (before, rest) = url.rsplit_once('@').unwrap();
    let (server, name) = rest.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let server = server.to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, server.clone()));
        }
    });
    let url = format!("{before}@{there}/{name}?sslmode=disable");
    let refused = Shop::open(&places(&url, &clouds, &folder), keys()).await.unwrap_err();
    assert_eq!(refused.code(), "song_role", "{}", refused.message());
    assert!(refused.message().contains("song_worker"), "{}", refused.message());
}
